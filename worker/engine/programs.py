"""The kernels' code, in Triton: one function is what one block of threads does."""
# Triton's language has no types to annotate, and writes what is known when it compiles in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, ARG001, D103, N803, N806, PLR0913, PLR0917
# mypy: ignore-errors

import triton
import triton.language as tl

_FP8_MAX = tl.constexpr(448.0)


@triton.jit
def row_scale(hidden, scale, epsilon, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    values = tl.load(hidden + row * WIDTH + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(scale + row, tl.rsqrt(tl.sum(values * values, 0) / WIDTH + epsilon))


@triton.jit
def swiglu(gate_up, scale, out, INNER: tl.constexpr, STRIPE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < INNER
    factor = tl.load(scale + row)
    at = gate_up + row * 2 * INNER + column // STRIPE * (2 * STRIPE) + column % STRIPE
    gate = tl.load(at, mask=inside).to(tl.float32) * factor
    up = tl.load(at + STRIPE, mask=inside).to(tl.float32) * factor
    tl.store(out + row * INNER + column, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _place(tile, down, across: tl.constexpr, GROUP: tl.constexpr):
    """Which tile of rows and which of columns is the next: GROUP tiles of rows share their columns in the cache."""
    group = tile // (GROUP * across)
    height = min(down - group * GROUP, GROUP)
    return group * GROUP + tile % (GROUP * across) % height, tile % (GROUP * across) // height


@triton.jit
def _halved(both, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The left and the right half of a tile's columns."""
    return tl.split(tl.permute(tl.reshape(both, [ROWS, 2, COLUMNS // 2]), [0, 2, 1]))


@triton.jit
def gated(
    rows,
    weights,
    scale,
    most,
    out,
    count,
    INNER: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    STRIPE: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    IS_FP8: tl.constexpr,
):
    """The product and what follows it: a tile holds a stripe of gates and, beside it, the ups that they open.

    Of fp8 rows `scale` is one number for all, and each row's largest value goes to `most`: what it is quantised by.
    """
    down = tl.cdiv(count, TILE)
    for tile in tl.range(tl.program_id(0), down * (INNER // STRIPE), tl.num_programs(0), flatten=True):
        row, stripe = _place(tile, down, INNER // STRIPE, GROUP)
        row *= TILE
        both = tl.zeros([TILE, 2 * STRIPE], tl.float32)
        for depth in range(0, WIDTH, DEPTH):
            left = rows.load([row, depth])
            right = weights.load([stripe * 2 * STRIPE, depth])
            both = tl.dot(left, right.T, both)
        gate, up = _halved(both, TILE, 2 * STRIPE)
        lane = row + tl.arange(0, TILE)
        factor = tl.load(scale) if IS_FP8 else tl.load(scale + lane, mask=lane < count, other=0.0)[:, None]
        gate *= factor
        inner = gate * tl.sigmoid(gate) * (up * factor)
        if IS_FP8:
            tl.atomic_max(most + lane, tl.max(tl.abs(inner), 1), mask=lane < count, sem="relaxed")
        out.store([row, stripe * STRIPE], inner.to(out.dtype))


@triton.jit
def quantise(values, most, out, scale, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Rows to fp8 by each one's largest value, which is known."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    largest = tl.maximum(tl.load(most + row), 1e-12)
    tl.store(scale + row, largest / _FP8_MAX)
    plain = tl.load(values + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * WIDTH + column, _to_fp8(plain * (_FP8_MAX / largest), out), mask=inside)


@triton.jit
def add_product_fp8(
    left,
    right,
    scale,
    scales,
    hidden,
    count,
    WIDTH: tl.constexpr,
    DEEP: tl.constexpr,
    TILE: tl.constexpr,
    WIDE: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    HAS_SCALES: tl.constexpr,
):
    """A product, times `scale` and its rows' own `scales`, added to `hidden` where it lies."""
    down = tl.cdiv(count, TILE)
    for tile in tl.range(tl.program_id(0), down * (WIDTH // WIDE), tl.num_programs(0), flatten=True):
        row, column = _place(tile, down, WIDTH // WIDE, GROUP)
        row *= TILE
        column *= WIDE
        both = tl.zeros([TILE, WIDE], tl.float32)
        for depth in range(0, DEEP, DEPTH):
            one = left.load([row, depth])
            other = right.load([column, depth])
            both = tl.dot(one, other.T, both)
        lane = row + tl.arange(0, TILE)
        factor = tl.load(scale)
        if HAS_SCALES:
            factor *= tl.load(scales + lane, mask=lane < count, other=0.0)[:, None]
        near, far = _halved(both, TILE, WIDE)
        wanted = (lane < count)[:, None]
        at = hidden + lane.to(tl.int64)[:, None] * WIDTH + (column + tl.arange(0, WIDE // 2))[None, :]
        before = tl.load(at, mask=wanted, other=0.0)
        tl.store(at, (before + near * factor).to(hidden.dtype.element_ty), mask=wanted)
        at += WIDE // 2
        before = tl.load(at, mask=wanted, other=0.0)
        tl.store(at, (before + far * factor).to(hidden.dtype.element_ty), mask=wanted)


@triton.jit
def swiglu_fp8(gate_up, out, scale, INNER: tl.constexpr, STRIPE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < INNER
    at = gate_up + row * 2 * INNER + column // STRIPE * (2 * STRIPE) + column % STRIPE
    gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(at + STRIPE, mask=inside, other=0.0).to(tl.float32)
    inner = gate * tl.sigmoid(gate) * up
    largest = tl.maximum(tl.max(tl.abs(inner), 0), 1e-12)
    tl.store(scale + row, largest / _FP8_MAX)
    tl.store(out + row * INNER + column, _to_fp8(inner * (_FP8_MAX / largest), out), mask=inside)


@triton.jit
def add_norm_fp8(
    hidden,
    update,
    scale,
    out,
    epsilon,
    factor,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_UPDATE: tl.constexpr,
    HAS_SCALE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = hidden + row * WIDTH + column
    values = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        added = tl.load(update + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
        if HAS_SCALE:
            added *= tl.load(scale + row)
        rounded = (values + added).to(hidden.dtype.element_ty)
        tl.store(at, rounded, mask=inside)
        values = rounded.to(tl.float32)
    norm = tl.rsqrt(tl.sum(values * values, 0) / WIDTH + epsilon)
    tl.store(out + row * WIDTH + column, _to_fp8(values * (norm * factor), out), mask=inside)


@triton.jit
def _to_fp8(values, out):
    return tl.clamp(values, -_FP8_MAX, _FP8_MAX).to(out.dtype.element_ty)


@triton.jit
def _halves(at, row_ok, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr):
    """The two halves of some heads, [rows, HALF_BLOCK] each; zero where a row is not wanted."""
    half = tl.arange(0, HALF_BLOCK)
    wanted = row_ok[:, None] & (half < HALF)[None, :]
    left = tl.load(at[:, None] + half[None, :], mask=wanted, other=0.0)
    right = tl.load(at[:, None] + HALF + half[None, :], mask=wanted, other=0.0)
    return left, right


@triton.jit
def _turned(left, right, cosine, sine, position, factor, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr):
    """Both halves rotated to `position` in the tables and multiplied by `factor` [rows]."""
    half = tl.arange(0, HALF_BLOCK)
    angle = position[:, None] * HALF + half[None, :]
    known = (half < HALF)[None, :]
    c = tl.load(cosine + angle, mask=known, other=0.0) * factor[:, None]
    s = tl.load(sine + angle, mask=known, other=0.0) * factor[:, None]
    dtype = left.dtype
    left = left.to(tl.float32)
    right = right.to(tl.float32)
    return (left * c - right * s).to(dtype), (right * c + left * s).to(dtype)


@triton.jit
def _step(query_left, query_right, key_left, key_right, value_left, value_right, weight, seen, state):
    """One block of keys into the running softmax; `weight` [keys] is what the values still lack."""
    best, total, mixed_left, mixed_right = state
    logits = tl.dot(query_left, tl.trans(key_left))
    logits = tl.dot(query_right, tl.trans(key_right), acc=logits)
    logits = tl.where(seen, logits, float("-inf"))
    new = tl.maximum(best, tl.max(logits, 1))
    safe = tl.where(new == float("-inf"), 0.0, new)  # a row that has seen no key yet
    likely = tl.exp2(logits - safe[:, None])
    fade = tl.exp2(best - safe)
    total = total * fade + tl.sum(likely, 1)
    likely = (likely * weight[None, :]).to(value_left.dtype)
    mixed_left = tl.dot(likely, value_left, acc=mixed_left * fade[:, None])
    mixed_right = tl.dot(likely, value_right, acc=mixed_right * fade[:, None])
    return new, total, mixed_left, mixed_right


@triton.jit
def _unbegun(ROWS: tl.constexpr, HALF_BLOCK: tl.constexpr):
    """The running softmax before any key: its best, its total, and both halves of what it has mixed."""
    nothing = tl.zeros([ROWS, HALF_BLOCK], tl.float32)
    return tl.full([ROWS], float("-inf"), tl.float32), tl.zeros([ROWS], tl.float32), nothing, nothing


@triton.jit
def _begun(
    shared,
    key_head,
    query_left,
    query_right,
    cosine,
    sine,
    position,
    KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
):
    """The running softmax after the one token that stands before all: its key turned to each row's `position`."""
    half = tl.arange(0, HALF_BLOCK)
    known = half < HALF
    at = shared + key_head * 2 * HALF + half
    left = tl.load(at, mask=known, other=0.0)
    right = tl.load(at + HALF, mask=known, other=0.0)
    angle = position[:, None] * HALF + half[None, :]
    c = tl.load(cosine + angle, mask=known[None, :], other=0.0)
    s = tl.load(sine + angle, mask=known[None, :], other=0.0)
    dtype = query_left.dtype
    key_left = (left[None, :] * c - right[None, :] * s).to(dtype).to(tl.float32)
    key_right = (right[None, :] * c + left[None, :] * s).to(dtype).to(tl.float32)
    best = tl.sum(query_left.to(tl.float32) * key_left + query_right.to(tl.float32) * key_right, 1)
    value = at + KEY_HEADS * 2 * HALF
    zeros = tl.zeros_like(key_left)
    mixed_left = zeros + tl.load(value, mask=known, other=0.0)[None, :]
    mixed_right = zeros + tl.load(value + HALF, mask=known, other=0.0)[None, :]
    return best, best * 0.0 + 1.0, mixed_left, mixed_right


@triton.jit
def attend(
    qkv,
    scales,
    starts,
    shared,
    cosine,
    sine,
    out,
    factor,
    softness,
    reach,
    HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    KEYS: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_SHARED: tl.constexpr,
    IS_FP8: tl.constexpr,
):
    """TILE tokens and the query heads of one key head against the keys from where the first of them starts.

    Positions are counted from the tile's first token: only distances matter.
    """
    GROUP: tl.constexpr = HEADS // KEY_HEADS
    HEAD: tl.constexpr = 2 * HALF
    ROW: tl.constexpr = (HEADS + 2 * KEY_HEADS) * HEAD
    ROWS: tl.constexpr = TILE * GROUP_BLOCK
    first = tl.program_id(0) * TILE
    key_head = tl.program_id(1)
    lane = tl.arange(0, ROWS)
    token = first + lane // GROUP_BLOCK
    part = lane % GROUP_BLOCK
    row_ok = part < GROUP
    head = key_head * GROUP + part
    left, right = _halves(qkv + token * ROW + head * HEAD, row_ok, HALF, HALF_BLOCK)
    lacks = tl.full([ROWS], softness, tl.float32)
    if HAS_SCALE:
        lacks *= tl.load(scales + token)
    query_left, query_right = _turned(left, right, cosine, sine, token - first + reach, lacks, HALF, HALF_BLOCK)
    start = tl.load(starts + token)
    window = tl.load(starts + first)
    if HAS_SHARED:
        before = start - 1 - first + reach
        state = _begun(shared, key_head, query_left, query_right, cosine, sine, before, KEY_HEADS, HALF, HALF_BLOCK)
    else:
        state = _unbegun(ROWS, HALF_BLOCK)
    for block in range(window, first + TILE, KEYS):
        key = block + tl.arange(0, KEYS)
        key_ok = key < first + TILE
        at = qkv + key * ROW + (HEADS + key_head) * HEAD
        raw_left, raw_right = _halves(at, key_ok, HALF, HALF_BLOCK)
        value_left, value_right = _halves(at + KEY_HEADS * HEAD, key_ok, HALF, HALF_BLOCK)
        weight = tl.full([KEYS], 1.0, tl.float32)
        if HAS_SCALE:
            weight = tl.load(scales + key, mask=key_ok, other=0.0)
        position = tl.minimum(key - first, TILE) + reach
        key_left, key_right = _turned(raw_left, raw_right, cosine, sine, position, weight, HALF, HALF_BLOCK)
        seen = (key[None, :] <= token[:, None]) & (key[None, :] >= start[:, None])
        state = _step(query_left, query_right, key_left, key_right, value_left, value_right, weight, seen, state)
    _best, total, mixed_left, mixed_right = state
    divisor = (factor / total)[:, None]
    half = tl.arange(0, HALF_BLOCK)
    at = out + (token * (HEADS * HEAD) + head * HEAD)[:, None] + half[None, :]
    wanted = row_ok[:, None] & (half < HALF)[None, :]
    if IS_FP8:
        tl.store(at, _to_fp8(mixed_left * divisor, out), mask=wanted)
        tl.store(at + HALF, _to_fp8(mixed_right * divisor, out), mask=wanted)
    else:
        tl.store(at, (mixed_left * divisor).to(out.dtype.element_ty), mask=wanted)
        tl.store(at + HALF, (mixed_right * divisor).to(out.dtype.element_ty), mask=wanted)


@triton.jit
def attend_ends(
    query,
    key_value,
    scales,
    starts,
    ends,
    shared,
    cosine,
    sine,
    out,
    softness,
    reach,
    HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    HALF: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    HAS_SHARED: tl.constexpr,
):
    """One message's last token and the query heads of one key head against all of its keys.

    Positions are counted from the last token, so that the query needs no rotation and keys stand below zero.
    """
    GROUP: tl.constexpr = HEADS // KEY_HEADS
    HEAD: tl.constexpr = 2 * HALF
    ROW: tl.constexpr = 2 * KEY_HEADS * HEAD
    place = tl.program_id(0)
    key_head = tl.program_id(1)
    part = tl.arange(0, ROWS)
    row_ok = part < GROUP
    head = key_head * GROUP + part
    end = tl.load(ends + place)
    start = tl.load(starts + end)
    at = place * HEADS * HEAD + head * HEAD
    query_left, query_right = _halves(query + at, row_ok, HALF, HALF_BLOCK)
    lacks = softness * tl.load(scales + end)
    query_left = (query_left.to(tl.float32) * lacks).to(query.dtype.element_ty)
    query_right = (query_right.to(tl.float32) * lacks).to(query.dtype.element_ty)
    if HAS_SHARED:
        before = part * 0 + start - 1 - end + reach
        state = _begun(shared, key_head, query_left, query_right, cosine, sine, before, KEY_HEADS, HALF, HALF_BLOCK)
    else:
        state = _unbegun(ROWS, HALF_BLOCK)
    for block in range(start, end + 1, KEYS):
        key = block + tl.arange(0, KEYS)
        key_ok = key <= end
        key_at = key_value + key * ROW + key_head * HEAD
        raw_left, raw_right = _halves(key_at, key_ok, HALF, HALF_BLOCK)
        value_left, value_right = _halves(key_at + KEY_HEADS * HEAD, key_ok, HALF, HALF_BLOCK)
        weight = tl.load(scales + key, mask=key_ok, other=0.0)
        position = tl.minimum(key - end, 0) + reach
        key_left, key_right = _turned(raw_left, raw_right, cosine, sine, position, weight, HALF, HALF_BLOCK)
        seen = row_ok[:, None] | key_ok[None, :]
        seen = seen & key_ok[None, :]
        state = _step(query_left, query_right, key_left, key_right, value_left, value_right, weight, seen, state)
    _best, total, mixed_left, mixed_right = state
    half = tl.arange(0, HALF_BLOCK)
    wanted = row_ok[:, None] & (half < HALF)[None, :]
    out_at = out + at[:, None] + half[None, :]
    tl.store(out_at, (mixed_left / total[:, None]).to(out.dtype.element_ty), mask=wanted)
    tl.store(out_at + HALF, (mixed_right / total[:, None]).to(out.dtype.element_ty), mask=wanted)


@triton.jit
def dequantise(
    codes,
    scales,
    levels,
    gain,
    out,
    total,
    WIDTH: tl.constexpr,
    BLOCKS: tl.constexpr,
    HAS_GAIN: tl.constexpr,
):
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    real = (block < total)[:, None]
    pair = block[:, None] * 32 + tl.arange(0, 32)[None, :]
    both = tl.load(codes + pair, mask=real, other=0).to(tl.int32)
    high = tl.load(levels + (both >> 4))
    low = tl.load(levels + (both & 15))
    values = tl.interleave(high, low) * tl.load(scales + block, mask=block < total, other=0.0)[:, None]
    place = block[:, None] * 64 + tl.arange(0, 64)[None, :]
    if HAS_GAIN:
        values *= tl.load(gain + place % WIDTH)
    tl.store(out + place, values.to(out.dtype.element_ty), mask=real)
