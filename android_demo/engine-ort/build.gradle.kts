plugins {
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    api(project(":core"))
    // The application brings the same classes with libraries for phones.
    compileOnly(libs.onnxruntime)
}
