package org.pytorch.executorch;

/** As Module: signatures, for the compiler alone. */
public abstract class Tensor {
    private Tensor() {}

    public static native Tensor fromBlob(float[] values, long[] shape);

    public static native Tensor fromBlob(long[] values, long[] shape);

    public native float[] getDataAsFloatArray();
}
