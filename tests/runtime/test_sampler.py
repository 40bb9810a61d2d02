"""From logits to a token: which are candidates, and which is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.bundle.splitmix import SplitMix64
from runtime.engine.sampler import Sampler, Sampling, best
from runtime.errors import GemmaError, RequestError

# Vigna's splitmix64.c, seed 0 and seed 1234567.
KNOWN = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC],
    1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431],
}


def logits_of(probabilities: list[float]) -> np.ndarray:
    return np.log(np.array(probabilities, np.float32))


def candidates(logits: np.ndarray, **sampling: Any) -> list[int]:
    ids: list[int] = Sampler(Sampling(**sampling)).candidates(logits)[0].tolist()
    return ids


def slow_best(logits: np.ndarray, count: int) -> list[int]:
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    return ranked[: count or None]


@pytest.mark.parametrize("seed", KNOWN)
def test_splitmix_gives_the_published_numbers(seed):
    random = SplitMix64(seed)
    assert [random.uniform() for _ in KNOWN[seed]] == [(value >> 11) / (1 << 53) for value in KNOWN[seed]]


def test_seeds_are_taken_modulo_two_to_the_64():
    assert SplitMix64(-1).uniform() == SplitMix64((1 << 64) - 1).uniform()


def test_greedy_takes_the_largest_and_of_equals_the_first():
    greedy = Sampler(Sampling(temperature=0))
    assert greedy(np.array([0, 3, 1, 3, 2], np.float32)) == 1


def test_greedy_draws_no_number():
    greedy = Sampler(Sampling(temperature=0, seed=5))
    greedy(np.array([0, 1], np.float32))
    assert greedy.random.state == SplitMix64(5).state


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 63, 64, 65, 127, 128, 1000, 4096, 4097]),
    st.sampled_from([0, 1, 2, 5, 40, 64, 256, 5000]),
    st.sampled_from([0.5, 4, 1e6]),
)
@settings(max_examples=100, deadline=None)
def test_best_equals_a_full_sort(seed, size, count, steps):
    """Few `steps` make many ties."""
    logits = (np.round(np.random.default_rng(seed).standard_normal(size) * steps) / steps).astype(np.float32)
    assert best(logits, count).tolist() == slow_best(logits, count)


def test_top_k_keeps_the_lower_ids_of_a_tie():
    assert candidates(np.array([1, 2, 1, 2, 1], np.float32), top_k=3) == [1, 3, 0]


def test_one_candidate_is_greedy_whatever_the_seed():
    logits = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    drawn = {Sampler(Sampling(top_k=1, temperature=5.0, seed=seed))(logits) for seed in range(20)}
    assert drawn == {int(logits.argmax())}


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(1e-9, [2]), (0.49, [2]), (0.51, [2, 0]), (0.74, [2, 0]), (0.76, [2, 0, 3]), (1.0, [2, 0, 3, 1])],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    assert candidates(logits_of([0.25, 0.1, 0.5, 0.15]), top_p=top_p) == kept


def test_top_p_counts_after_top_k_and_temperature():
    logits = logits_of([0.4, 0.3, 0.2, 0.1])
    assert candidates(logits, top_p=0.5) == [0, 1]
    assert candidates(logits, top_k=2, top_p=0.5) == [0]
    assert candidates(logits, temperature=0.2, top_p=0.5) == [0]
    assert candidates(logits, temperature=100.0, top_p=0.74) == [0, 1, 2]


def test_probabilities_are_a_softmax_of_logits_over_temperature():
    logits = np.array([0.5, -1, 2, 0.25], np.float32)
    ids, probabilities = Sampler(Sampling(temperature=0.7)).candidates(logits)
    expected = np.exp(logits.astype(np.float64) / 0.7)
    assert np.allclose(probabilities, (expected / expected.sum())[ids], rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 1e-300])
def test_large_logits_and_small_temperatures_are_greedy(temperature):
    logits = np.array([3e4, 2e4, -3e4], np.float32)
    ids, probabilities = Sampler(Sampling(temperature=temperature)).candidates(logits)
    assert ids[0] == 0
    assert probabilities.tolist() == [1.0, 0.0, 0.0]


def test_the_draw_is_the_inverse_of_the_running_sum():
    probabilities = [0.1, 0.2, 0.3, 0.4]
    sampler, random = Sampler(Sampling(seed=11)), SplitMix64(11)
    order, edges = [3, 2, 1, 0], np.cumsum([0.4, 0.3, 0.2, 0.1])
    expected = [order[int((edges <= random.uniform()).sum())] for _ in range(200)]
    assert [sampler(logits_of(probabilities)) for _ in range(200)] == expected


def test_same_seed_same_draws_other_seed_others():
    logits = np.random.default_rng(1).standard_normal(300).astype(np.float32)

    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(seed=seed))
        return [sampler(logits) for _ in range(30)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_without_a_seed_two_samplers_differ():
    one, other = Sampler(Sampling()), Sampler(Sampling())
    assert one.random.state != other.random.state


def test_draws_are_as_frequent_as_their_probabilities():
    probabilities = [0.5, 0.25, 0.15, 0.1]
    sampler = Sampler(Sampling(seed=2))
    logits, count = logits_of(probabilities), 4000
    found = np.bincount([sampler(logits) for _ in range(count)], minlength=4) / count
    assert np.abs(found - probabilities).max() < 0.03


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": float("nan")},
    ],
)
def test_a_value_out_of_range_is_refused(sampling):
    name, value = next(iter(sampling.items()))
    with pytest.raises(GemmaError, match=f"{name.replace('_', '-')} must be .*, not {value}") as refused:
        Sampling(**sampling)
    assert refused.value.hint


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf"), 10**400])
def test_a_temperature_that_no_float_holds_is_refused(temperature):
    with pytest.raises(RequestError, match="temperature must be finite and 0 or more"):
        Sampling(temperature=temperature)
