plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

kotlin {
    jvmToolchain(17)
}

android {
    namespace = "gemmaedge.app"
    compileSdk = 36
    defaultConfig {
        applicationId = "gemmaedge.app"
        minSdk = 28
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
        ndk {
            abiFilters += "arm64-v8a"
        }
    }
    packaging {
        // Stored, not packed, and at 16 KB: phones with large pages map libraries where they lie.
        jniLibs.useLegacyPackaging = false
    }
}

dependencies {
    implementation(project(":engine-ort"))
    implementation(project(":engine-executorch"))
    implementation(libs.onnxruntime.android)
}
