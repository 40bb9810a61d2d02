package gemmaedge.app

import java.io.File

/** Bytes of memory that this process holds, as the kernel counts them. */
fun residentMemory(): Long {
    val line = File("/proc/self/status").useLines { lines -> lines.first { it.startsWith("VmRSS:") } }
    return line.filter(Char::isDigit).toLong() * 1024
}
