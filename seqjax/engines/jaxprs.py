"""Reading a jaxpr: its equations one by one, and those that lead from values that are known to others that are wanted."""

CALLS = {"checkpoint", "remat", "remat2", "pjit", "jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"}

SAFE = {  # finite for anything finite
    *("abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy", "cos"),
    *("eq", "erf", "ge", "gt", "is_finite", "le", "logistic", "lt", "max", "min", "mul", "name", "ne", "neg", "not"),
    *("optimization_barrier", "or", "pad", "reduce_max", "reduce_precision", "reduce_sum", "reshape", "select_n", "sign"),
    *("sin", "slice", "split", "square", "squeeze", "sub", "tanh", "transpose", "xor"),
}
CHEAP = SAFE | {  # by the number, as no product of matrices is
    *("acos", "asin", "atan", "atan2", "cbrt", "cosh", "div", "exp", "exp2", "expm1", "integer_pow", "log", "log1p", "pow"),
    *("rsqrt", "sinh", "sqrt", "tan"),
}


def bind(equation, *values):
    """The results of an equation of a jaxpr."""
    results = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
    return list(results) if equation.primitive.multiple_results else [results]


def inner(equation):
    """The jaxpr that an equation calls, None where it calls none, and its constants."""
    called = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return getattr(called, "jaxpr", called), getattr(called, "consts", ())


def is_literal(atom):
    return hasattr(atom, "val")


def path(jaxpr, known, wanted, allowed=CHEAP):
    """The equations from known variables to those wanted, in order; None where there are none, or others than allowed."""
    equations, missing = [], {v for v in wanted if not is_literal(v)} - known
    for equation in reversed(jaxpr.eqns):
        if missing.isdisjoint(equation.outvars):
            continue
        if not _is_in(allowed, equation):
            return None
        equations.append(equation)
        missing -= set(equation.outvars)
        missing |= {v for v in equation.invars if not is_literal(v)} - known
    return None if missing else equations[::-1]


def that_follow(jaxpr, known):
    """Variables that are computed of known ones alone, by the number."""
    found: set = set()
    for equation in jaxpr.eqns:
        read = {v for v in equation.invars if not is_literal(v)}
        if read and read <= known | found and _is_in(CHEAP, equation):
            found |= set(equation.outvars)
    return found


def _is_in(allowed, equation):
    name = equation.primitive.name
    return name in allowed or (name in CALLS and all(_is_in(allowed, one) for one in inner(equation)[0].eqns))


def follow(equations, values):
    """The values of variables, those of a path among them."""
    values = dict(values)
    for equation in equations:
        results = bind(equation, *[v.val if is_literal(v) else values[v] for v in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return values
