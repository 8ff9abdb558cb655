// Recommendations from a bundle in Node: node recommend.mjs BUNDLE USER_ID [K] [--category Comedy] [--diversity 0.5] ...
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { OPTIONS as REASONS, mustExplain, reasonsOf } from './reasons.mjs'
import { OPTIONS as RULES, indicesOf, rulesOf } from './rules.mjs'
import { OPTIONS as VARIETY, placesOf, varietyOf } from './variety.mjs'
process.env.ORT_DISABLE_TELEMETRY ??= '1' // or official builds report to their maker
const ort = await import('onnxruntime-node')
process.on('uncaughtException', ({ message }) => (console.error(`Error: ${message}`), process.exit(1)))

const OPTIONS = { ...RULES, ...VARIETY, ...REASONS }
const { values: options, positionals: [bundle, userId, k = '10'] } = parseArgs({ options: OPTIONS, allowPositionals: true })
if (!userId || !/^[1-9][0-9]*$/.test(k)) {
  console.error(`Usage: node recommend.mjs BUNDLE USER_ID [K] ${Object.keys(OPTIONS).map((name) => `[--${name} ...]`).join(' ')}`)
  process.exit(2)
}
const read = async (name, options = {}) =>
  parquetReadObjects({ file: await asyncBufferFromFile(join(bundle, name)), ...options })

// Row n of users.parquet is user index n + 1. Index 0 is "unknown": the average user.
const userIndex = (await read('users.parquet')).findIndex(({ user_id: id }) => id !== null && String(id) === userId) + 1
const items = await read('items.parquet')
const manifest = JSON.parse(await readFile(join(bundle, 'manifest.json'), 'utf8'))
const { model, data: { ratings_range: [low, high] }, without_seen: withoutSeen } = manifest
const rules = rulesOf(options, manifest.item_rules, items, ort.Tensor)
const variety = varietyOf(options, manifest.graphs.variety, items, ort.Tensor)
const explained = mustExplain(options, manifest)

// What this user has rated is left out, where the bundle holds it. Only the row groups that may hold this user are read.
const wanted = { columns: ['user_index', 'item_index', 'rating'], filter: { user_index: { $eq: userIndex } } }
const seen = withoutSeen ? [] : await read('seen.parquet', wanted)
if (withoutSeen) console.error('This bundle does not hold what users have rated: the list may have it, too.')
const exclude = [0, ...seen.map((row) => row.item_index), ...indicesOf(options.deny, items)].map(BigInt) // 0 is padding

// Rules have a graph of their own, which leaves items out before it takes the best.
const open = (graph) => ort.InferenceSession.create(join(bundle, `${graph}.onnx`))
const found = await (await open(rules ? 'recommend_filtered' : 'recommend')).run({
  user_index: new ort.Tensor('int64', [BigInt(userIndex)], [1]),
  exclude_item_indices: new ort.Tensor('int64', exclude, [1, exclude.length]),
  ...rules,
})

// Predicted ratings are the scores where they order the list, else beside them; some models predict none.
const ratings = model.lists === 'ratings' ? found.top_scores : found.top_ratings
if (!userIndex) console.error(`User ${userId} is not in this bundle: what follows is the average user's list.`)
const ranked = [...found.top_item_indices.data].map(Number)
const places = (await placesOf(variety, found, Number(k), open)).filter((place) => ranked[place] > 0) // 0: no item is left
if (!places.length) throw new Error('no item is left, of those that the user has not rated')
const indices = places.map((place) => ranked[place])
const reasons = explained ? await reasonsOf(open, seen, indices, items, ort.Tensor) : []
places.forEach((place, rank) => {
  const { item_id: id, title } = items[indices[rank] - 1]
  const shown = ratings
    ? `${Math.min(Math.max(ratings.data[place], low), high).toFixed(2)} ★`
    : found.top_scores.data[place].toFixed(6) // only orders the list
  console.log(`${shown}\t${id}\t${title ?? ''}`)
  if (reasons[rank]) console.log(`\tbecause you rated ${reasons[rank]}`)
})
