// Why an item is in a list: the ratings that raise its score most, from explain.onnx.
export const OPTIONS = { explain: { type: 'boolean', default: false } }
const N_REASONS = 3

/** Whether reasons are asked for; an error where the bundle has none. `manifest`: manifest.json. */
export function mustExplain(options, { graphs, left_out: leftOut, without_seen: withoutSeen }) {
  if (!options.explain) return false
  if (withoutSeen) throw new Error('this bundle gives no reasons: it does not hold what users have rated')
  if (!graphs.explain) {
    const why = leftOut?.explain ?? 'export its run again with `recsys export --explain`'
    throw new Error(`this bundle gives no reasons: ${why}`)
  }
  return true
}

/** For each of some items, as text, the ratings that raise its score most, the largest contribution first.
 * @param open opens a graph by its name
 * @param seen the ratings of one user: [{item_index, rating}]
 * @param indices of the items, from 1
 * @param items the rows of items.parquet */
export async function reasonsOf(open, seen, indices, items, Tensor) {
  if (!seen.length || !indices.length) return indices.map(() => '')
  const { contributions } = await (await open('explain')).run({
    item_indices: new Tensor('int64', seen.map(({ item_index: index }) => BigInt(index)), [1, seen.length]),
    ratings: new Tensor('float32', seen.map(({ rating }) => rating), [1, seen.length]),
    explained_item_indices: new Tensor('int64', indices.map(BigInt), [1, indices.length]),
  })
  return indices.map((_, row) => {
    const added = contributions.data.subarray(row * seen.length, (row + 1) * seen.length)
    const order = [...seen.keys()].sort((a, b) => added[b] - added[a])
    const raise = order.slice(0, N_REASONS).filter((place) => added[place] > 0).map((place) => seen[place])
    const titleOf = ({ item_id: id, title }) => title ?? id
    return raise.map(({ item_index: index, rating }) => `${titleOf(items[index - 1])} ${rating}`).join('; ')
  })
}
