package org.pytorch.executorch;

/** As Module: signatures, for the compiler alone. */
public class EValue {
    private EValue() {}

    public static native EValue from(Tensor tensor);

    public native Tensor toTensor();
}
