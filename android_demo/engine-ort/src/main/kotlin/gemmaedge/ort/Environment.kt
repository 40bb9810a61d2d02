package gemmaedge.ort

import ai.onnxruntime.OrtEnvironment

/** onnxruntime, loaded here and nowhere else. */
internal val environment: OrtEnvironment by lazy {
    disableTelemetry()
    OrtEnvironment.getEnvironment()
}

/**
 * Since 1.29 onnxruntime tells its maker of every process and keeps an id of the device, unless this is set before its
 * library loads; its own switch comes too late. A desktop's JVM has no way to set it: who starts one does.
 */
private fun disableTelemetry() {
    val system = try {
        Class.forName("android.system.Os")
    } catch (desktop: ClassNotFoundException) {
        return
    }
    val set = system.getMethod("setenv", String::class.java, String::class.java, Boolean::class.javaPrimitiveType)
    set.invoke(null, "ORT_DISABLE_TELEMETRY", "1", false) // false: a user's own choice stays
}
