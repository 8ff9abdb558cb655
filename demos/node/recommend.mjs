// Recommendations from a bundle in Node: node recommend.mjs BUNDLE USER_ID [K] [--category Comedy] [--diversity 0.5] ...
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { OPTIONS as RULES, rulesOf } from './rules.mjs'
import { OPTIONS as VARIETY, placesOf, varietyOf } from './variety.mjs'
process.env.ORT_DISABLE_TELEMETRY ??= '1' // or official builds report to their maker
const ort = await import('onnxruntime-node')
process.on('uncaughtException', ({ message }) => (console.error(`Error: ${message}`), process.exit(1)))

const OPTIONS = { ...RULES, ...VARIETY }
const { values: options, positionals: [bundle, userId, k = '10'] } = parseArgs({ options: OPTIONS, allowPositionals: true })
if (!userId || !/^[1-9][0-9]*$/.test(k)) {
  console.error(`Usage: node recommend.mjs BUNDLE USER_ID [K] ${Object.keys(OPTIONS).map((name) => `[--${name} ...]`).join(' ')}`)
  process.exit(2)
}
const read = async (name, options = {}) =>
  parquetReadObjects({ file: await asyncBufferFromFile(join(bundle, name)), ...options })

// Row n of users.parquet is user index n + 1. Index 0 is "unknown": the average user.
const users = await read('users.parquet')
const userIndex = users.findIndex((row) => row.user_id !== null && String(row.user_id) === userId) + 1
const items = await read('items.parquet')
const { model, data, graphs, without_seen: withoutSeen, item_rules: columns } = JSON.parse(await readFile(join(bundle, 'manifest.json'), 'utf8'))
const rules = rulesOf(options, columns, ort.Tensor)
const variety = varietyOf(options, graphs.variety, items, ort.Tensor)

// What this user has rated is left out, where the bundle holds it. Only the row groups that may hold this user are read.
const wanted = { columns: ['user_index', 'item_index'], filter: { user_index: { $eq: userIndex } } }
const seen = withoutSeen ? [] : await read('seen.parquet', wanted)
if (withoutSeen) console.error('This bundle does not hold what users have rated: the list may have it, too.')
const exclude = seen.length ? seen.map((row) => BigInt(row.item_index)) : [0n] // 0 is padding

// Rules have a graph of their own, which leaves items out before it takes the best.
const open = (graph) => ort.InferenceSession.create(join(bundle, `${graph}.onnx`))
const session = await open(rules ? 'recommend_filtered' : 'recommend')
const found = await session.run({
  user_index: new ort.Tensor('int64', [BigInt(userIndex)], [1]),
  exclude_item_indices: new ort.Tensor('int64', exclude, [1, exclude.length]),
  ...rules,
})

// Predicted ratings are the scores where they order the list, else beside them; some models predict none.
const ratings = model.lists === 'ratings' ? found.top_scores : found.top_ratings
const [low, high] = data.ratings_range

if (!userIndex) console.error(`User ${userId} is not in this bundle: what follows is the average user's list.`)
for (const place of (await placesOf(variety, found, open)).slice(0, Number(k))) {
  const index = Number(found.top_item_indices.data[place])
  if (index === 0) break // no item is left
  const { item_id: id, title } = items[index - 1]
  const shown = ratings
    ? `${Math.min(Math.max(ratings.data[place], low), high).toFixed(2)} ★`
    : found.top_scores.data[place].toFixed(6) // only orders the list
  console.log(`${shown}\t${id}\t${title ?? ''}`)
}
