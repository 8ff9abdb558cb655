// The conformance cases of a bundle (conformance.json), run in any ONNX Runtime for JavaScript: Node or a browser.
// docs/bundle.md states how answers are compared.

const LISTS = ['top_item_indices', 'top_item_ids', 'top_titles']
const RELATIVE = 1e-6
const TAIL = -1e29 // below every score: the tail of a list that ran out of items

/** Run every conformance case of one graph.
 * @param ort the onnxruntime module
 * @param cases the cases of the graph, `graphs[graph]` of conformance.json; undefined where there are none
 * @param tolerance of the graph, from manifest.json: output -> largest difference
 * @param graph the graph's name
 * @param open async (graph) => session; an error means that this runtime can't run the graph
 * @returns {graph, n_cases, largest_error, unsupported, problem}; null for what does not apply, 0 cases where
 *   the bundle has no cases for it */
export async function check(ort, cases = [], tolerance, graph, open) {
  const verdict = { graph, n_cases: cases.length, largest_error: null, unsupported: null, problem: null }
  let session
  try {
    session = await open(graph)
  } catch (error) {
    const told = error?.message ?? `error ${error}` // ONNX Runtime Web also throws numbers
    const missing = told.match(/No Op registered for (\w+)/)
    return { ...verdict, unsupported: missing ? `no operator ${missing[1]}` : told }
  }
  let largest = 0
  for (const { inputs, outputs } of cases) {
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, tensor(ort, value)]))
    const found = await session.run(feeds)
    const problem = difference(found, outputs, tolerance)
    if (problem) return { ...verdict, problem }
    for (const [name, right] of Object.entries(outputs)) {
      if (right.dtype !== 'float32') continue
      right.data.forEach((value, place) => {
        if (value > TAIL && isComparable(name, place, found, outputs)) largest = Math.max(largest, Math.abs(found[name].data[place] - value))
      })
    }
  }
  return { ...verdict, largest_error: cases.length ? largest : null }
}

/** A tensor of the runtime from an array as conformance.json has it. */
export function tensor(ort, { dtype, shape, data }) {
  const make = {
    int64: () => BigInt64Array.from(data.map(BigInt)),
    float32: () => Float32Array.from(data),
    bool: () => Uint8Array.from(data.map(Number)),
    string: () => data,
  }[dtype]
  return new ort.Tensor(dtype, make(), shape)
}

/** What is wrong with the outputs of one case, or null. Floats may differ by their output's tolerance, items
 * only where expected scores are as good as tied. */
export function difference(found, expected, tolerance) {
  for (const [name, right] of Object.entries(expected)) {
    const dims = found[name]?.dims ?? []
    if (dims.length !== right.shape.length || dims.some((size, axis) => size !== right.shape[axis])) {
      return `${name} should have the shape [${right.shape}], has [${dims}]`
    }
    const isList = LISTS.includes(name)
    const tied = isList && asGoodAsTied(expected.top_scores, 2 * tolerance.top_scores)
    for (let place = 0; place < right.data.length; place++) {
      const [value, wanted] = [found[name].data[place], right.data[place]]
      const same =
        right.dtype === 'float32'
          ? Math.abs(value - wanted) <= tolerance[name] + RELATIVE * Math.abs(wanted)
          : String(right.dtype === 'bool' ? Boolean(value) : value) === String(wanted)
      if (!same && !(isList && tied[place]) && isComparable(name, place, found, expected)) {
        return `${name} is ${value} instead of ${wanted} at ${place}`
      }
    }
  }
  return null
}

/** Whether a place of an output is compared: ratings only of items that are in their places. */
function isComparable(name, place, found, expected) {
  if (name !== 'top_ratings') return true
  const items = LISTS.find((list) => list in expected)
  return String(found[items]?.data[place]) === String(expected[items].data[place])
}

/** Whether each score of [B, K], falling, is within a distance of its neighbour's. The last rank has a
 * neighbour that is not listed, so what stands there may always change. */
function asGoodAsTied({ data, shape }, within) {
  const width = shape[1]
  return data.map((score, place) => {
    const rank = place % width
    if (rank === width - 1) return true
    return (rank > 0 && data[place - 1] - score <= within) || score - data[place + 1] <= within
  })
}
