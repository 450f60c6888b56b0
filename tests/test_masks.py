"""Lengths, masks, and states that are held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import engines, masks


def test_length_mask_marks_the_first_steps():
    expected = [[False, True, True], [False, True, True], [False, False, True]]
    mask = sj.length_mask(np.array([0, 2, 3]), 3)
    assert mask.dtype == jnp.bool_
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_length_mask_has_the_batch_axes_of_the_lengths(shape):
    assert sj.length_mask(np.full(shape, 2), 4).shape == (4, *shape)


def test_length_mask_takes_lists_and_small_integers():
    np.testing.assert_array_equal(sj.length_mask([1, 2], 2), sj.length_mask(np.array([1, 2], np.int8), 2))


def test_length_mask_of_no_sequences():
    assert sj.length_mask(np.zeros((0,), np.int32), 3).shape == (3, 0)


def test_length_mask_under_jit_cannot_check_values():
    compiled = jax.jit(sj.length_mask, static_argnums=1)
    np.testing.assert_array_equal(compiled(np.array([1, 9]), 2), [[True, True], [False, True]])


def test_hold_takes_new_where_valid():
    new, old = jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]])
    np.testing.assert_array_equal(masks.hold(jnp.array([True, False]), new, old), [[1.0], [4.0]])


def test_hold_without_a_mask_takes_all():
    assert masks.hold(None, "new", "old") == "new"


def test_hold_keeps_an_untouched_leaf_itself():
    memory, h = jnp.ones((2, 3)), jnp.zeros((2, 1))
    kept, _ = masks.hold(jnp.array([True, False]), (memory, h + 1), (memory, h))
    assert kept is memory


@pytest.mark.parametrize("masked", [False, True])
def test_an_untouched_leaf_of_the_carry_is_no_carry_of_the_loop(masked):
    """A memory that every step reads and none writes costs nothing per step."""

    def step(carry, u):
        h, memory = carry
        h = jnp.tanh(h + u + memory.sum(-1, keepdims=True))
        return (h, memory), h

    def run(h, memory, us, mask):
        return engines.scan(step, (h, memory), us, mask=mask if masked else None)

    jaxpr = jax.make_jaxpr(jax.jit(run))(jnp.zeros((2, 1)), jnp.ones((2, 9)), jnp.ones((5, 2, 1)), jnp.ones((5, 2), bool))
    (loop,) = [equation for equation in jaxpr.eqns[0].params["jaxpr"].eqns if equation.primitive.name == "scan"]
    assert [v.aval.shape for v in loop.outvars] == [(2, 1), (5, 2, 1)]  # the state and the outputs


def test_restart_starts_anew_where_asked():
    fresh, carry = jnp.array([[0.0], [0.0]]), jnp.array([[3.0], [4.0]])
    np.testing.assert_array_equal(masks.restart(jnp.array([True, False]), fresh, carry), [[0.0], [4.0]])
    assert masks.restart(None, fresh, carry) is carry


def test_zero_unless_lets_no_nan_into_values_or_gradients():
    valid, x = jnp.array([True, False]), jnp.array([[2.0], [jnp.nan]])
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(masks.zero_unless(valid, x) ** 2))(x)
    assert value == 4.0
    np.testing.assert_array_equal(gradient, [[4.0], [0.0]])


def test_reverse_resets_stand_where_a_sequence_ends():
    resets = np.array([True, False, False, True, False])  # sequences 0-2 and 3-4, read as 4 3 | 2 1 0
    np.testing.assert_array_equal(masks.reverse_resets(resets), [False, False, True, False, False])
    assert masks.reverse_resets(None) is None
