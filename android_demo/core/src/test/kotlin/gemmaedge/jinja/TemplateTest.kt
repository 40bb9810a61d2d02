package gemmaedge.jinja

import gemmaedge.core.GoldenSet
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class TemplateTest {
    @Suppress("UNCHECKED_CAST")
    @Test fun conversationsAndSnippetsRenderAsInPython() {
        val cases = GoldenSet.INT4.lines("templates.jsonl")
        assertEquals(true, cases.size > 60)
        for (case in cases) {
            val variables = case.values["variables"] as Map<String, Any?>
            if ("refused" in case.values) {
                assertThrows(case.text("name"), TemplateError::class.java) { Template.parse(case.text("source")).render(variables) }
            } else {
                assertEquals(case.text("name"), case.text("text"), rendered(case.text("name"), case.text("source"), variables))
            }
        }
    }

    private fun rendered(name: String, source: String, variables: Map<String, Any?>) = try {
        Template.parse(source).render(variables)
    } catch (error: TemplateError) {
        throw AssertionError("$name: ${error.message}", error)
    }

    @Test fun hostileTemplatesEnd() {
        val sources = listOf(
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{{ 'a' * 999999999 }}",
            "{{ [1] * 999999999 }}",
            "{{ 9 ** 99999 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ " + "(".repeat(10_000),
            "{{ not ".repeat(1) + "not ".repeat(10_000),
            "{{ range(10000000) }}",
            "{% set x = 'ab' * 1000 %}{% for i in range(100000) %}{% for j in range(100) %}{{ x }}{% endfor %}{% endfor %}",
            "{% include 'x' %}",
            "{{ x | unknown }}",
            "{{ messages._private }}",
        )
        for (source in sources) assertThrows(source.take(60), TemplateError::class.java) { Template.parse(source).render(mapOf("messages" to listOf(1L))) }
    }
}
