"""Checks without which kernels would read or write outside of arrays."""


def check_search(bank, queries, k, bank_groups, query_groups):
    """Raise a ValueError unless the arrays of a search for neighbours fit together.

    Parameters
    ----------
    bank : ndarray of shape (n_bank, n_features)
        Rows to search.
    queries : ndarray of shape (n_queries, n_features)
        Rows whose neighbours are searched.
    k : int
        Number of neighbours per query.
    bank_groups : ndarray of shape (n_bank,)
        Group of each bank row.
    query_groups : ndarray of shape (n_queries,)
        Group of each query.
    """
    require(bank.ndim == queries.ndim == 2, "bank and queries must be matrices")
    require(bank.shape[1] == queries.shape[1], f"queries have {queries.shape[1]} columns, the bank {bank.shape[1]}")
    require(1 <= k <= len(bank), f"{k} neighbours are wanted of {len(bank)} bank rows")
    sizes = len(bank_groups), len(query_groups)
    require(sizes == (len(bank), len(queries)), f"there are {sizes} groups for {len(bank)} and {len(queries)} rows")


def require(condition, message):
    """Raise a ValueError with a message unless a condition holds.

    Parameters
    ----------
    condition : bool
        What must hold.
    message : str
        What does not hold otherwise.
    """
    if not condition:
        raise ValueError(message)
