plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
}

kotlin {
    jvmToolchain(17)
}

android {
    namespace = "gemmaedge.executorch"
    compileSdk = 36
    defaultConfig {
        minSdk = 28
    }
}

dependencies {
    api(project(":core"))
    implementation(libs.executorch.android)
}
