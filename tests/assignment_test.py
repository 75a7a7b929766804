import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxmix import assignment, pairings
from train.timing.fields import random_fields

SOLVERS = {"exact": assignment.exact, "sinkhorn": assignment.sinkhorn}


def totals(costs, columns):
    costs = np.asarray(costs, np.float64)
    return np.take_along_axis(costs, np.asarray(columns)[:, :, None], axis=2).sum((1, 2))


def optima(costs):
    return np.array([cost[optimize.linear_sum_assignment(cost)].sum() for cost in np.asarray(costs, np.float64)])


def assert_permutations(columns):
    g, k = columns.shape
    np.testing.assert_array_equal(np.sort(columns, axis=1), np.broadcast_to(np.arange(k), (g, k)))


def cost_matrices(kind, g, k, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.uniform(size=(g, k, k)).astype(np.float32)
    if kind == "ties":
        return rng.integers(0, 3, size=(g, k, k)).astype(np.float32)
    if kind == "constant":
        return np.full((g, k, k), 7, np.float32)
    if kind == "negative":
        return -rng.exponential(size=(g, k, k)).astype(np.float32) * 1e4
    points = rng.integers(0, 4, size=(2, g, k, 1)).astype(np.float32)  # duplicates
    return (points[0] - points[1].swapaxes(1, 2)) ** 2


KINDS = ["random", "ties", "constant", "negative", "duplicates"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 7, 16])
def test_exact_is_the_optimum_ties_and_duplicates_included(kind, k):
    costs = cost_matrices(kind, 20, k)
    columns = jax.jit(assignment.exact)(costs)
    assert_permutations(columns)
    np.testing.assert_allclose(totals(costs, columns), optima(costs), rtol=1e-5, atol=1e-4)


def test_exact_is_the_optimum_of_large_problems():
    costs = cost_matrices("random", 4, 64)
    columns = jax.jit(assignment.exact)(costs)
    assert_permutations(columns)
    np.testing.assert_allclose(totals(costs, columns), optima(costs), rtol=1e-5)


def test_a_match_that_is_required_by_a_large_negative_cost_leaves_the_others_optimal():
    costs = cost_matrices("random", 50, 6)
    costs[:, 0, 0] = -1e9
    columns = jax.jit(assignment.exact)(costs)
    assert np.all(np.asarray(columns)[:, 0] == 0)
    rest = totals(costs[:, 1:, 1:], np.asarray(columns)[:, 1:] - 1)
    np.testing.assert_allclose(rest, optima(costs[:, 1:, 1:]), rtol=1e-5)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(("worse", "better"), [(3e38, 1e38), (3e38, -3e38), (2e-37, 1e-37), (1e6 + 1, 1e6)])
def test_costs_at_the_ends_of_float32_are_solved(name, worse, better):
    costs = jnp.array([[[worse, better], [better, worse]], [[better, worse], [worse, better]]])
    assert jax.jit(SOLVERS[name])(costs).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("name", SOLVERS)
def test_costs_below_float32_s_normal_numbers_end(name):
    assert_permutations(jax.jit(SOLVERS[name])(jnp.array([[[1.5e-38, 2e-38], [2e-38, 1.5e-38]]])))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [1e-4, 0.05, 10.0])
def test_sinkhorn_is_a_permutation_whatever_epsilon_is(kind, epsilon):
    costs = cost_matrices(kind, 20, 16)
    columns = jax.jit(functools.partial(assignment.sinkhorn, epsilon=epsilon, num_iterations=10))(costs)
    assert_permutations(columns)


@pytest.mark.parametrize("k", [pytest.param(4, marks=pytest.mark.slow), 16, pytest.param(32, marks=pytest.mark.slow)])
def test_sinkhorn_comes_within_two_per_mille_of_the_optimum_on_image_like_data(k):
    fields = random_fields(512).reshape(512 // k, k, -1)
    costs = pairings.squared_distances(jnp.asarray(fields), jnp.roll(jnp.asarray(fields), -1, axis=0))
    optimum = optima(costs).sum()
    excess = totals(costs, jax.jit(assignment.sinkhorn)(costs)).sum() / optimum - 1
    assert -1e-6 <= excess <= 2e-3


def test_the_plan_is_the_entropic_optimum():
    """Its marginals are uniform, and its logarithm is -cost / epsilon plus a row and a column term."""
    costs = jnp.asarray(cost_matrices("random", 3, 8))
    plan = assignment.sinkhorn_plan(costs, epsilon=0.5, num_iterations=200)
    mass = np.exp(plan.log_plan)
    np.testing.assert_allclose(mass.sum(1), 1 / 8, atol=1e-4)
    np.testing.assert_allclose(mass.sum(2), 1 / 8, atol=1e-4)
    assert np.all(plan.marginal_error < 1e-3)
    rest = plan.log_plan + costs / (0.5 * costs.std((1, 2), keepdims=True))
    doubly_centred = rest - rest.mean(1, keepdims=True) - rest.mean(2, keepdims=True) + rest.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(doubly_centred, 0, atol=1e-4)


def test_too_few_iterations_show_in_the_marginal_error():
    costs = jnp.asarray(cost_matrices("random", 3, 16))
    few, many = (assignment.sinkhorn_plan(costs, epsilon=0.01, num_iterations=i).marginal_error for i in (2, 500))
    assert np.all(few > 10 * many)


def greedy_by_hand(scores):
    scores, columns = np.array(scores, np.float64), np.empty(len(scores), int)
    for _ in range(len(scores)):
        row, column = np.unravel_index(np.argmax(scores), scores.shape)
        columns[row] = column
        scores[row, :] = scores[:, column] = -np.inf
    return columns


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_takes_the_largest_free_entry_each_time(kind):
    scores = cost_matrices(kind, 20, 12)
    columns = assignment.round_greedily(jnp.asarray(scores))
    np.testing.assert_array_equal(columns, [greedy_by_hand(score) for score in scores])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rounding_gives_a_permutation_of_any_scores(value):
    scores = cost_matrices("random", 5, 6)
    scores[0] = value
    scores[1, 2] = value
    scores[2, :, 3] = value
    assert_permutations(assignment.round_greedily(jnp.asarray(scores)))


def test_swaps_end_where_no_swap_helps():
    costs = cost_matrices("random", 10, 12)
    start = np.stack([np.random.default_rng(i).permutation(12) for i in range(10)]).astype(np.int32)
    columns = np.asarray(assignment.improve_by_swaps(jnp.asarray(costs), jnp.asarray(start)))
    assert_permutations(columns)
    assert np.all(totals(costs, columns) < totals(costs, start))
    for cost, column in zip(costs, columns, strict=True):
        exchanged = cost[:, column]
        own = np.diagonal(exchanged)
        assert np.all(own[:, None] + own[None, :] - exchanged - exchanged.T < 1e-5)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_do_not_hang_a_solver(name, value):
    costs = cost_matrices("random", 4, 6)
    costs[0] = value
    costs[1, 2] = value
    costs[2, 0, 0] = value
    columns = jax.jit(SOLVERS[name])(costs)
    assert_permutations(columns)
    np.testing.assert_allclose(totals(costs, columns)[3], optima(costs[3:])[0], rtol=1e-2)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_problem_does_not_depend_on_those_beside_it(name):
    costs = cost_matrices("random", 1, 6)
    costs[0, 2, 3] = np.inf
    beside = np.concatenate([costs, np.full((1, 6, 6), 1e30, np.float32)])
    np.testing.assert_array_equal(SOLVERS[name](beside)[0], SOLVERS[name](costs)[0])
    np.testing.assert_allclose(totals(np.minimum(costs, 9), SOLVERS[name](beside)[:1]), optima(np.minimum(costs, 9)))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_no_solver_depends_on_units(name, scale):
    costs = cost_matrices("random", 8, 16)
    columns, scaled = (jax.jit(SOLVERS[name])(jnp.asarray(c)) for c in (costs, costs * np.float32(scale)))
    assert totals(costs, scaled).sum() <= totals(costs, columns).sum() * 1.001


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_costs_are_solved_in_float32(dtype):
    costs = jnp.asarray(cost_matrices("random", 4, 8)).astype(dtype)
    for solve in SOLVERS.values():
        np.testing.assert_array_equal(solve(costs), solve(costs.astype(jnp.float32)))


def test_sinkhorn_refuses_parameters_without_a_plan():
    costs = jnp.asarray(cost_matrices("random", 1, 4))
    with pytest.raises(ValueError, match=r"epsilon must be positive.*got -1\.0 and 50"):
        assignment.sinkhorn(costs, epsilon=-1.0)
    with pytest.raises(ValueError, match=r"num_iterations at least 1, got 0\.05 and 0"):
        assignment.sinkhorn(costs, num_iterations=0)
