"""Pages of other origins, and names of this machine, that the server was told of."""

from __future__ import annotations

import pytest

from runtime.serve.guard import Allowed
from tests.serving import QUESTION, ask, serving

pytestmark = pytest.mark.slow


def test_pages_of_an_allowed_origin_may_ask_and_no_others(bundle):
    allowed = Allowed.of(True, ["host.docker.internal"], ["http://localhost:3000"])
    with serving(bundle("sample", "int8"), allowed=allowed) as shared:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        ours = {"Origin": "http://localhost:3000"}
        status, headers, _ = ask(shared, None, ours | asks, "OPTIONS")
        assert (status, headers["access-control-allow-origin"]) == (200, ours["Origin"])
        assert headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in headers["access-control-allow-methods"]
        body = {"model": shared.model, "messages": QUESTION, "max_tokens": 1}
        for given in (body, {"model": "other"}):
            _, headers, _ = ask(shared, given, ours | {"Host": "host.docker.internal:8080"})
            assert headers["access-control-allow-origin"] == ours["Origin"], "errors are shown to the page, too"
        assert ask(shared, body, ours)[0] == 200
        for other in ("http://localhost:3001", "null"):
            for method, content in (("OPTIONS", None), ("POST", body)):
                status, headers, _ = ask(shared, content, {"Origin": other} | asks, method)
                assert status == 403
                assert "access-control-allow-origin" not in headers


def test_without_an_allowed_origin_no_answer_is_shared(bundle):
    with serving(bundle("sample", "int8")) as served:
        body = {"model": served.model, "messages": QUESTION, "max_tokens": 1}
        _, headers, _ = ask(served, body, {"Origin": served.url})
    assert not [name for name in headers if name.startswith("access-control")]
