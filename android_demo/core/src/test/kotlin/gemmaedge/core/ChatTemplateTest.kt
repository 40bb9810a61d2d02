package gemmaedge.core

import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ChatTemplateTest {
    private val tokenizers = HashMap<String, Tokenizer>()

    private fun tokenizer(file: String) =
        tokenizers.getOrPut(file) { Tokenizer(Vocabulary.open(File(GoldenSet.INT4.folder, file)), 2) }

    private fun message(said: Entry) =
        Message(Role.valueOf(said.text("role").uppercase()), said.text("content"), said.values["reasoning"] as String? ?: "")

    @Suppress("UNCHECKED_CAST")
    @Test fun conversationsBecomeTheIdsThatTransformersGives() {
        val chats = GoldenSet.INT4.lines("chats.jsonl")
        assertTrue(chats.size > 150)
        for (chat in chats) {
            val specialTokens = chat.values["special_tokens"] as Map<String, String>
            val template = ChatTemplate(chat.text("template"), tokenizer(chat.text("vocabulary")), specialTokens, chat.flag("trust"))
            val ids = template.prompt(chat.entries("messages").map(::message), chat.flag("thinking"))
            assertArrayEquals("${chat.text("name")}, ${chat.text("vocabulary")}", chat.ids("ids"), ids)
        }
    }

    @Test fun aTemplateThatKnowsNoSystemMessageRefusesALaterOneToo() {
        val source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
        val template = ChatTemplate(source, tokenizer("bundle/vocabulary.bin"))
        val messages = listOf(Message(Role.USER, "a"), Message(Role.SYSTEM, "b"))
        assertEquals("chat template: no system", assertThrows(GemmaError::class.java) { template.prompt(messages) }.sentence)
    }

    @Test fun aTemplateThatDropsEverySystemMessageHasNoPlaceForALaterOne() {
        val source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
        val messages = listOf(Message(Role.USER, "a"), Message(Role.SYSTEM, "b"))
        val error = assertThrows(GemmaError::class.java) { ChatTemplate(source, tokenizer("bundle/vocabulary.bin")).prompt(messages) }
        assertEquals("the chat template has no place for a system message", error.sentence)
    }

    @Test fun moreFirstCharactersThanMarksAreRefused() {
        fun mask(count: Int) = ControlMask(AddedTokens((0 until count).associateBy { Char(64 + it).toString() }))
        val text = String(CharArray(32) { Char(64 + it) })
        assertEquals(text, mask(32).show(mask(32).hide(text)))
        assertTrue(mask(32).hide(text).none { it in text })
        val error = assertThrows(GemmaError::class.java) { mask(33) }
        assertEquals("control tokens begin with 33 different characters, 32 at most can be read", error.sentence)
    }
}
