// Variety of a list, from a command's options to the inputs of variety.onnx.
export const OPTIONS = {
  diversity: { type: 'string' }, // 0 to 1: how unlike each other the items are
  surprise: { type: 'string' }, // -1 (familiar) to 1 (surprising)
  'max-per-category': { type: 'string' }, // from 1 on
}

/** The graph's inputs for one list, by name, of ONNX Runtime's class `Tensor`; null where the list stays as it is.
 * `graph`: its entry in the manifest, if the bundle has it; `items`: the rows of items.parquet. */
export function varietyOf(options, graph, items, Tensor) {
  const weight = (name, lowest) => {
    const text = options[name] ?? '0'
    if (!/^-?\d*\.?\d+$/.test(text) || Number(text) < lowest || Number(text) > 1) {
      throw new Error(`${name} must be a number from ${lowest} to 1, got ${JSON.stringify(text)}`)
    }
    return Number(text)
  }
  const [diversity, surprise, most] = [weight('diversity', 0), weight('surprise', -1), options['max-per-category']]
  if (most !== undefined && !(/^[1-9]\d*$/.test(most) && Number(most) < 2 ** 31)) {
    throw new Error(`max-per-category must be a whole number from 1 on, got ${JSON.stringify(most)}`)
  }
  if (!diversity && !surprise && most === undefined) return null
  if (!graph) throw new Error('this bundle has no variety.onnx: export its run again with `recsys export --variety`')
  if (most !== undefined && !items.some(({ genres }) => genres)) throw new Error('the items of this bundle have no categories')
  return {
    diversity: new Tensor('float32', [diversity], [1]),
    surprise: new Tensor('float32', [surprise], [1]),
    max_per_category: new Tensor('int64', [BigInt(most ?? 0)], [1]), // 0: no limit
  }
}

/** The first k places of a list in their new order. `found`: what a graph that ranks gave; `open`: opens a graph by its name. */
export async function placesOf(variety, found, k, open) {
  if (!variety) return [...found.top_scores.data.keys()].slice(0, k)
  const { places } = await (await open('variety')).run({ item_indices: found.top_item_indices, scores: found.top_scores, ...variety })
  if (k > places.data.length) console.error(`A varied list has at most ${places.data.length} items.`)
  return Array.from(places.data, Number).slice(0, k)
}
