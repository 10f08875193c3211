"""Sparse coding with many small dictionaries: orthogonal matching pursuit, and dictionary learning.

Every function takes one dictionary or a stack of C dictionaries, along the first axis of all arrays: X (n, d) with a
dictionary (k, d), or X (C, n, d) with dictionaries (C, k, d). All sums are loops in float64 in a fixed order, so that
the bits of a patch's result depend neither on the other patches nor on the number of threads.
"""

import numpy as np
from numba import prange

from .compiled import compiled, parallel

_CHUNK = 1024  # patches per task of a thread
_EPS = np.finfo(np.float64).eps
_MAX_SWEEPS = 1000  # largest number of sweeps of the coordinate descent over the atoms
_SWEEP_TOL = 1e-9  # change of a coefficient that ends the descent, relative to the largest correlation
_DEAD = 1e-6  # share of the energy of the patches below which an atom counts as unused
_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


def omp_codes(X, dictionaries, n_nonzero_coefs):
    """Return the codes of patches by orthogonal matching pursuit.

    The atom with the largest product with the residual (the first of equal ones) is added repeatedly, and all
    coefficients are fitted again. In Batch-OMP, the products with the residual come from the Gram matrix, and the fit
    from a Cholesky factor that grows by one row per atom. The pursuit of a patch ends before `n_nonzero_coefs` atoms
    if the largest product is at most sqrt(eps) times the norms of patch and atom, or if the atom is linearly dependent
    on those already chosen.

    Parameters
    ----------
    X : ndarray of shape (n, d) or (C, n, d), float32 or float64
        Patches.
    dictionaries : ndarray of shape (k, d) or (C, k, d)
        Atoms. As in the OMP of scikit-learn they are not normalised, so they should have equal norms.
    n_nonzero_coefs : int
        Largest number of atoms in a code, in [1, k].

    Returns
    -------
    ndarray of shape (n, k) or (C, n, k), float64
        Codes.

    Raises
    ------
    ValueError
        If `n_nonzero_coefs` is outside [1, k], or the shapes do not match.

    References
    ----------
    Rubinstein, Zibulevsky and Elad, "Efficient Implementation of the K-SVD Algorithm using Batch Orthogonal Matching
    Pursuit", Technion CS-2008-08.
    """
    X, stack, shape = _stacked(X, dictionaries, n_nonzero_coefs)
    codes = np.zeros((*X.shape[:2], stack.shape[1]))
    _code(X, stack, n_nonzero_coefs, codes, np.empty(X.shape[:2]))
    return codes.reshape(*shape, -1)


def omp_errors(X, dictionaries, n_nonzero_coefs):
    r"""Return the squared errors :math:`\lVert x - D a \rVert^2` of the codes a of `omp_codes`.

    The codes are not kept. Errors are computed from the residuals themselves: the error of a patch that is an exact
    combination of its atoms is zero up to the square of the rounding error.

    Parameters
    ----------
    X : ndarray of shape (n, d) or (C, n, d), float32 or float64
        Patches.
    dictionaries : ndarray of shape (k, d) or (C, k, d)
        Atoms. As in the OMP of scikit-learn they are not normalised, so they should have equal norms.
    n_nonzero_coefs : int
        Largest number of atoms in a code, in [1, k].

    Returns
    -------
    ndarray of shape (n,) or (C, n), float64
        Squared errors.
    """
    X, stack, shape = _stacked(X, dictionaries, n_nonzero_coefs)
    errors = np.empty(X.shape[:2])
    _code(X, stack, n_nonzero_coefs, np.empty((len(X), 0, 0)), errors)
    return errors.reshape(shape)


def decode(codes, dictionaries):
    """Return the patches reconstructed from codes.

    Parameters
    ----------
    codes : ndarray of shape (n, k) or (C, n, k)
        Codes.
    dictionaries : ndarray of shape (k, d) or (C, k, d)
        Atoms.

    Returns
    -------
    ndarray of shape (n, d) or (C, n, d), float64
        Reconstructed patches.
    """
    patches = np.zeros((*codes.shape[:-1], dictionaries.shape[-1]))
    for j in range(dictionaries.shape[-2]):
        patches += codes[..., j, None] * dictionaries[..., None, j, :]
    return patches


def learn_dictionaries(X, n_components, seeds, *, alpha=1.0, max_iter=20, batch_size=256, tol=1e-3):
    r"""Learn one dictionary per channel, online.

    .. math:: \min_{D, a} \sum_i \tfrac{1}{2} \lVert x_i - D a_i \rVert^2 + \alpha \lVert a_i \rVert_1, \qquad
              \lVert d_j \rVert \le 1

    Batches of patches, in random order, are coded with the current dictionary (the exact lasso). The sums A of a a^T
    and B of a x^T, in which the weight of batch t is proportional to t, then yield the next dictionary: each atom in
    turn is set to its optimum and projected onto the unit ball. An unused atom is replaced by the worst-represented
    patch of the batch. The first dictionary consists of random patches, scaled to norm 1.

    Parameters
    ----------
    X : ndarray of shape (n, d) or (C, n, d), float32 or float64
        Patches of each channel. Channels are independent, so they can be passed in several calls.
    n_components : int
        Number of atoms k per channel.
    seeds : ndarray of shape (C,), int
        Seeds of the random order of the patches of each channel, the first of which are the first atoms; a single
        number for X (n, d).
    alpha : float
        Weight of the l1 norm of the codes.
    max_iter : int
        Largest number of passes over the patches.
    batch_size : int
        Number of patches between two updates of the dictionary.
    tol : float
        Tolerance of the stopping rule: a channel is finished when a pass lowers its objective by at most this share of
        it.

    Returns
    -------
    dictionaries : ndarray of shape (k, d) or (C, k, d), float64
        Atoms.
    n_iter : ndarray of shape (C,), int64
        Number of passes; a single number for X (n, d).

    References
    ----------
    Mairal et al., "Online dictionary learning for sparse coding", ICML 2009.
    """
    stack = np.ascontiguousarray(X).reshape(-1, *X.shape[-2:])
    seeds = np.asarray(seeds).astype(np.uint64).reshape(-1)
    if len(seeds) != len(stack):
        raise ValueError(f"seeds must be one number for each of the {len(stack)} channels, got {len(seeds)}.")
    dictionaries = np.empty((len(stack), n_components, X.shape[-1]))
    n_iter = np.empty(len(stack), np.int64)
    _learn(stack, seeds, float(alpha), max_iter, min(batch_size, X.shape[-2]), float(tol), dictionaries, n_iter)
    return dictionaries.reshape(*X.shape[:-2], n_components, -1), n_iter.reshape(X.shape[:-2])[()]


def _stacked(X, dictionaries, n_nonzero_coefs):
    """Return patches and dictionaries with a channel axis, and the shape of an array of one value per patch."""
    n_components, n_values = dictionaries.shape[-2:]
    if X.shape[:-2] != dictionaries.shape[:-2] or X.shape[-1] != n_values:
        raise ValueError(f"X of shape {X.shape} cannot be coded with dictionaries of shape {dictionaries.shape}.")
    if not 1 <= n_nonzero_coefs <= n_components:
        raise ValueError(f"n_nonzero_coefs={n_nonzero_coefs} is not accepted; it must be in [1, {n_components} atoms].")
    stack = np.ascontiguousarray(dictionaries, np.float64).reshape(-1, n_components, n_values)
    return np.ascontiguousarray(X).reshape(-1, *X.shape[-2:]), stack, X.shape[:-1]


@compiled(fastmath=_SUMS)
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@compiled()
def _gram(atoms, gram):
    for i in range(len(atoms)):
        for j in range(i + 1):
            gram[i, j] = gram[j, i] = _dot(atoms[i], atoms[j])


# numba compiles a function again for every caller and dtype: hence few array expressions below, and only float64.


@parallel()
def _code(X, dictionaries, n_nonzero, codes, errors):
    """Fill in the errors of all patches and, unless it is empty, the array of codes."""
    n_chunks = (X.shape[1] + _CHUNK - 1) // _CHUNK
    for task in prange(X.shape[0] * n_chunks):
        c, begin = task // n_chunks, task % n_chunks * _CHUNK
        part = slice(begin, begin + _CHUNK)
        _code_chunk(_as_double(X[c, part]), dictionaries[c], n_nonzero, codes[c, part], errors[c, part])


@compiled()
def _as_double(rows):
    return rows.astype(np.float64)


@compiled()
def _code_chunk(patches, atoms, n_nonzero, codes, errors):
    """Code the patches of one channel, replacing the patches by their residuals."""
    n_atoms = len(atoms)
    gram = np.empty((n_atoms, n_atoms))
    _gram(atoms, gram)
    products, rest = np.empty(n_atoms), np.empty(n_atoms)
    chosen, taken = np.empty(n_nonzero, np.int64), np.empty(n_atoms, np.bool_)
    factor, halfway, code = np.empty((n_nonzero, n_nonzero)), np.empty(n_nonzero), np.empty(n_nonzero)
    for i in range(len(patches)):
        patch = patches[i]
        for j in range(n_atoms):
            products[j] = _dot(atoms[j], patch)
        smallest = _EPS * _dot(patch, patch)
        n_chosen = _pursue(products, gram, smallest, rest, chosen, taken, factor, halfway, code)
        for s in range(n_chosen):
            if len(codes) > 0:
                codes[i, chosen[s]] = code[s]
            for v in range(len(patch)):
                patch[v] -= code[s] * atoms[chosen[s], v]
        errors[i] = _dot(patch, patch)


@compiled()
def _pursue(products, gram, smallest, rest, chosen, taken, factor, halfway, code):
    """Choose atoms and fit their coefficients; return the number of atoms.

    `factor` is the Cholesky factor L of the Gram matrix of the chosen atoms, `halfway` the solution y of
    L y = products.
    """
    for j in range(len(products)):
        taken[j], rest[j] = False, products[j]
    for m in range(len(chosen)):
        new = _largest(rest, taken)
        if rest[new] ** 2 <= smallest * gram[new, new] or not _grow(m, new, gram, chosen, factor):
            return m
        chosen[m], taken[new] = new, True
        halfway[m] = (products[new] - _dot(factor[m, :m], halfway[:m])) / factor[m, m]
        _substitute_back(m + 1, factor, halfway, code)
        if m + 1 < len(chosen):
            _subtract(products, gram, m + 1, chosen, code, rest)
    return len(chosen)


@compiled()
def _largest(rest, taken):
    """Return the atom with the largest product, of those not yet taken; the first of equal ones."""
    largest, best = -1.0, 0
    for j in range(len(rest)):
        if not taken[j] and abs(rest[j]) > largest:
            largest, best = abs(rest[j]), j
    return best


@compiled()
def _grow(m, new, gram, chosen, factor):
    """Append the row of atom `new` to the Cholesky factor; return False if it is dependent on the m chosen atoms."""
    left = gram[new, new]
    for row in range(m):
        factor[m, row] = (gram[new, chosen[row]] - _dot(factor[row, :row], factor[m, :row])) / factor[row, row]
        left -= factor[m, row] ** 2
    if left <= _EPS * gram[new, new]:
        return False
    factor[m, m] = np.sqrt(left)
    return True


@compiled()
def _substitute_back(m, factor, halfway, solution):
    """Solve L^T z = y for the leading m rows."""
    for row in range(m - 1, -1, -1):
        value = halfway[row]
        for s in range(row + 1, m):
            value -= factor[s, row] * solution[s]
        solution[row] = value / factor[row, row]


@compiled()
def _subtract(products, gram, m, chosen, coefs, rest):
    """Fill in the products of all atoms with the residual of the patch after m atoms."""
    for j in range(len(rest)):
        rest[j] = products[j]
        for s in range(m):
            rest[j] -= coefs[s] * gram[chosen[s], j]


@parallel()
def _learn(X, seeds, alpha, max_iter, batch_size, tol, dictionaries, n_iter):
    for c in prange(len(X)):
        n_iter[c] = _learn_one(_shuffled(X[c], seeds[c : c + 1]), alpha, max_iter, batch_size, tol, dictionaries[c])


@compiled()
def _learn_one(patches, alpha, max_iter, batch_size, tol, atoms):
    """Fill in the atoms of one channel and return the number of passes."""
    n_patches, n_atoms = len(patches), len(atoms)
    for j in range(n_atoms):
        _set_atom(atoms[j], patches[j % n_patches])
    A, B, energy = np.zeros((n_atoms, n_atoms)), np.zeros(atoms.shape), 0.0
    before, n_steps = np.inf, 0
    for iteration in range(max_iter):
        objective = 0.0
        for begin in range(0, n_patches, batch_size):
            keep = n_steps / (n_steps + 1)
            batch = patches[begin : begin + batch_size]
            batch_objective, batch_energy, worst = _add_batch(batch, atoms, alpha, keep, A, B)
            objective += batch_objective
            energy = keep * energy + batch_energy
            _update(atoms, A, B, _DEAD * energy, batch[worst])
            n_steps += 1
        if before - objective <= tol * objective:
            return iteration + 1
        before = objective
    return max_iter


@compiled()
def _shuffled(patches, state):
    """Return the patches in random order, as float64."""
    order = np.arange(len(patches))
    for i in range(len(patches) - 1, 0, -1):
        j = _draw(i + 1, state)
        order[i], order[j] = order[j], order[i]
    shuffled = np.empty(patches.shape)
    for i in range(len(patches)):
        for v in range(patches.shape[1]):
            shuffled[i, v] = patches[order[i], v]
    return shuffled


@compiled()
def _draw(n, state):
    """Return a random number in [0, n) and advance the state (SplitMix64; the generator of numba is one per thread)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) % np.uint64(n))


@compiled()
def _set_atom(atom, patch):
    """Set the atom to the patch, scaled to norm 1 unless it is 0."""
    norm = np.sqrt(_dot(patch, patch))
    for v in range(len(atom)):
        atom[v] = patch[v] / norm if norm > 0 else 0.0


@compiled()
def _add_batch(batch, atoms, alpha, keep, A, B):
    """Code a batch, and add it to the sums A and B after multiplying these by `keep`.

    Return the objective of the batch, its energy, and the index of its worst-represented patch.
    """
    n_atoms = len(atoms)
    gram = np.empty((n_atoms, n_atoms))
    _gram(atoms, gram)
    products, rest, code = np.empty(n_atoms), np.empty(n_atoms), np.empty(n_atoms)
    chosen, factor = np.empty(n_atoms, np.int64), np.empty((n_atoms, n_atoms))
    halfway, fitted = np.empty(n_atoms), np.empty(n_atoms)
    A *= keep
    B *= keep
    objective, energy, largest, worst = 0.0, 0.0, -1.0, 0
    for i in range(len(batch)):
        patch = batch[i]
        for j in range(n_atoms):
            products[j] = _dot(atoms[j], patch)
        _lasso(products, gram, alpha, rest, code, chosen, factor, halfway, fitted)
        error, penalty = _dot(patch, patch), 0.0
        energy += error
        for j in range(n_atoms):
            if code[j] == 0:
                continue
            error -= code[j] * (products[j] + rest[j])
            penalty += alpha * abs(code[j])
            for s in range(n_atoms):
                A[j, s] += code[j] * code[s]
            for v in range(len(patch)):
                B[j, v] += code[j] * patch[v]
        objective += error / 2 + penalty
        if error > largest:
            largest, worst = error, i
    return objective, energy, worst


@compiled()
def _lasso(products, gram, alpha, rest, code, chosen, factor, halfway, fitted):
    """Fill in the code of the lasso, and in `rest` the products of the atoms with its residual.

    Coordinate descent finds the signs in a few sweeps, but may need hundreds for the values, which `_settle` computes.
    """
    for j in range(len(code)):
        code[j], rest[j] = 0.0, products[j]
    enough = _SWEEP_TOL * _largest_size(products)
    for _ in range(_MAX_SWEEPS):
        largest, signs_changed = _sweep(gram, alpha, rest, code)
        if largest <= enough:
            return
        if not signs_changed and _settle(products, gram, alpha, rest, code, chosen, factor, halfway, fitted):
            return


@compiled()
def _largest_size(values):
    largest = 0.0
    for value in values:
        largest = max(largest, abs(value))
    return largest


@compiled()
def _sweep(gram, alpha, rest, code):
    """Set each coefficient in turn to its optimum; return the largest change, and whether any sign changed."""
    largest, signs_changed = 0.0, False
    for j in range(len(code)):
        squared = gram[j, j]
        if squared == 0:
            continue
        target = rest[j] + squared * code[j]
        new = np.sign(target) * max(abs(target) - alpha, 0.0) / squared
        step = new - code[j]
        if step != 0:
            signs_changed |= np.sign(new) != np.sign(code[j])
            code[j] = new
            largest = max(largest, abs(step) * squared)
            for s in range(len(code)):
                rest[s] -= step * gram[j, s]
    return largest, signs_changed


@compiled()
def _settle(products, gram, alpha, rest, code, chosen, factor, halfway, fitted):
    """Move to the optimum for the current signs, or to the first sign change on the way there.

    Return whether the result is the solution of the lasso.
    """
    m = 0
    for j in range(len(code)):
        if code[j] != 0:
            if not _grow(m, j, gram, chosen, factor):
                return False
            chosen[m] = j
            halfway[m] = (products[j] - alpha * np.sign(code[j]) - _dot(factor[m, :m], halfway[:m])) / factor[m, m]
            m += 1
    _substitute_back(m, factor, halfway, fitted)
    share, crossing = 1.0, -1
    for s in range(m):
        value = code[chosen[s]]
        if fitted[s] * value <= 0 and value / (value - fitted[s]) < share:
            share, crossing = value / (value - fitted[s]), s
    for s in range(m):
        fitted[s] = 0.0 if s == crossing else code[chosen[s]] + share * (fitted[s] - code[chosen[s]])
        code[chosen[s]] = fitted[s]
    _subtract(products, gram, m, chosen, fitted, rest)
    return crossing < 0 and _largest_size(rest) <= alpha + _SWEEP_TOL * _largest_size(products)


@compiled()
def _update(atoms, A, B, dead, patch):
    """Move each atom in turn to its optimum in the unit ball; replace the first unused atom (`dead`) by `patch`."""
    replaced = False
    for j in range(len(atoms)):
        atom = atoms[j]
        if A[j, j] > dead:
            for v in range(len(atom)):
                change = B[j, v]
                for s in range(len(atoms)):
                    change -= A[j, s] * atoms[s, v]
                atom[v] += change / A[j, j]
            length = max(np.sqrt(_dot(atom, atom)), 1.0)
            for v in range(len(atom)):
                atom[v] /= length
        elif not replaced:
            _set_atom(atom, patch)
            replaced = True
