package org.pytorch.executorch;

import java.io.Closeable;

/** What the engine uses of ExecuTorch's class: its signatures, for the compiler alone. */
public class Module implements Closeable {
    public static final int LOAD_MODE_MMAP = 1;

    private Module() {}

    public static Module load(String path, int mode, int threads) {
        throw new UnsatisfiedLinkError("declarations only");
    }

    public native EValue[] execute(String method, EValue... inputs);

    public native void loadMethod(String method);

    @Override
    public native void close();
}
