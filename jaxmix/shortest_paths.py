"""A solver for one assignment problem by shortest augmenting paths, in steps of equal cost that suit vmap."""

import functools
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

NOBODY = -1


class _State(NamedTuple):
    """The state of the search for a path from a row without a column to a column without a row.

    Attributes:
      price: price of each column. A row's column is one with the least cost - price.
      row_of: the row that has each column, or NOBODY.
      waiting: whether each row has no column yet. The path starts at the first such row.
      row: the row whose columns are reached in this step; NOBODY once a path is found.
      column: the column that was settled last, or that changes hands next once a path is found;
        NOBODY at the start.
      distance: distance of `column`.
      shortest: shortest distance of each column so far.
      before: the column whose row reached each column at that distance, or NOBODY.
      settled: whether each column's distance is final.
    """

    price: Float[Array, " k"]
    row_of: Int[Array, " k"]
    waiting: Bool[Array, " k"]
    row: Int[Array, ""]
    column: Int[Array, ""]
    distance: Float[Array, ""]
    shortest: Float[Array, " k"]
    before: Int[Array, " k"]
    settled: Bool[Array, " k"]


def assign(costs: Float[Array, "k k"]) -> Int[Array, " k"]:
    """Finds the permutation with the lowest total cost.

    Rows get their columns one after the other. Each time, the algorithm finds the shortest path,
    in cost above prices, from a row without a column to a column without a row. Rows on the path
    exchange their columns for others. A step settles one column of the path, or gives one column
    to another row. So under vmap, problems wait for one another at the end only, not at every row.

    Args:
      costs: finite float32 [k, k], of which sums of k entries must not overflow.

    Returns:
      The column of every row, [k] int32.

    Example:
      >>> shortest_paths.assign(jnp.array([[4.0, 1.0], [2.0, 0.0]]))
      Array([1, 0], dtype=int32)

    References:
      Crouse, `On implementing 2D rectangular assignment algorithms
      <https://doi.org/10.1109/TAES.2016.140952>`_, 2016
    """
    column = costs[0]  # the initial state is made from it, so that it varies over devices if costs do
    nobody = jnp.full_like(column, NOBODY, jnp.int32)

    def step(state: _State) -> _State:
        pair = _settle(costs, state), _hand_over(state)
        return jax.tree.map(functools.partial(jnp.where, state.row != NOBODY), *pair)

    start = _State(
        price=jnp.min(costs, axis=0),
        row_of=nobody,
        waiting=jnp.ones_like(column, bool),
        row=jnp.zeros_like(nobody[0]),
        column=nobody[0],
        distance=jnp.zeros_like(column[0]),
        shortest=jnp.full_like(column, jnp.inf),
        before=nobody,
        settled=jnp.zeros_like(column, bool),
    )
    row_of = jax.lax.while_loop(lambda state: jnp.any(state.waiting), step, start).row_of
    return jnp.zeros_like(nobody).at[row_of].set(_places(costs))


def _settle(costs: Array, state: _State) -> _State:
    """Updates the distances of columns from the current row and settles the nearest, which ends the path if free."""
    excess = costs[state.row] - state.price
    offset = jnp.where(state.column == NOBODY, 0, state.distance - excess[state.column])
    nearer = ~state.settled & (excess + offset < state.shortest)
    shortest = jnp.where(nearer, excess + offset, state.shortest)
    before = jnp.where(nearer, state.column, state.before)
    column = jnp.argmin(jnp.where(state.settled, jnp.inf, shortest)).astype(jnp.int32)
    distance = shortest[column]
    settled = state.settled | (_places(costs) == column)
    row = state.row_of[column]
    lowered = jnp.where((row == NOBODY) & settled, shortest - distance, 0)
    return state._replace(
        price=state.price + lowered,
        row=row,
        column=column,
        distance=distance,
        shortest=shortest,
        before=before,
        settled=settled,
    )


def _hand_over(state: _State) -> _State:
    """Gives a column to the row that reached it, and starts the next path if that row was the first."""
    index = _places(state.price)
    before = state.before[state.column]
    first = jnp.argmax(state.waiting).astype(jnp.int32)
    ends = before == NOBODY
    waiting = state.waiting & ~(ends & (index == first))
    return state._replace(
        row_of=jnp.where(index == state.column, jnp.where(ends, first, state.row_of[before]), state.row_of),
        waiting=waiting,
        row=jnp.where(ends, jnp.argmax(waiting).astype(jnp.int32), NOBODY),
        column=before,
        shortest=jnp.where(ends, jnp.inf, state.shortest),
        settled=state.settled & ~ends,
    )


def _places(array: Array) -> Int[Array, " k"]:
    return jnp.arange(array.shape[0], dtype=jnp.int32)
