"""What `inspect` says of the proof that a bundle was sealed with."""

from __future__ import annotations

from typing import Any

from .bundle import Bundle
from .parity import CallReport, Rehearsal, Report, Reports

FLOAT = "float"  # of the references: the checkpoint's own values
NOT_ASKED = "not asked"


def proof_facts(bundle: Bundle) -> dict[str, Any]:
    """Return what the report says, by name; empty without one.  Raises GemmaError for one that can not be read."""
    if not bundle.manifest.parity:
        return {}
    proof = bundle.json(bundle.manifest.parity, Reports)
    return {
        **{report.artifact: like_the_checkpoint(report) for report in proof.reports if FLOAT in report.against},
        **({"loss accepted": f"{proof.loss.accepted_by}: {'; '.join(proof.loss.missed)}"} if proof.loss else {}),
        **(rehearsal_facts(proof.rehearsal) if proof.rehearsal else {"rehearsal": "none: nothing ran an artifact"}),
        **({"scripted calls": call_facts(proof.calls)} if proof.calls else {}),
    }


def like_the_checkpoint(report: Report) -> str:
    parity = report.against[FLOAT]
    return (
        f"{parity.agreement:.1%} of {parity.positions} tokens as the checkpoint, "
        f"{parity.mean_divergence:.3g} nats a token from it"
    )


def rehearsal_facts(rehearsal: Rehearsal) -> dict[str, str]:
    """Return the forms by what became of them, and what answered."""
    outcomes: dict[str, list[str]] = {}
    for form, outcome in rehearsal.forms.items():
        outcomes.setdefault(outcome, []).append(form)
    conversations = "; ".join(f"{', '.join(forms)}: {outcome}" for outcome, forms in outcomes.items())
    return {
        "conversations": conversations or "none: the model has no chat template",
        "ends of an answer": " ".join(rehearsal.stop),
        "answer by a schema": asked(rehearsal.structured),
        "call of a tool": asked(rehearsal.call),
    }


def asked(answer: str) -> str:
    return answer if answer.startswith(NOT_ASKED) else "given and read back"


def call_facts(calls: CallReport) -> str:
    return calls.nothing or (
        f"as the checkpoint's in {calls.same} of {calls.conversations} conversations; "
        f"the checkpoint calls in {calls.calling}"
    )
