// Rules for lists, from a command's options to the inputs of recommend_filtered.onnx.
export const OPTIONS = {
  allow: { type: 'string', multiple: true, default: [] }, // the id of an item: no others are listed
  deny: { type: 'string', multiple: true, default: [] }, // the id of an item that is not listed
  category: { type: 'string', multiple: true, default: [] }, // an item has at least one of these
  'not-category': { type: 'string', multiple: true, default: [] }, // and none of these
  years: { type: 'string' }, // 1990-1999, 1990-, -1999 or 1990
  'min-ratings': { type: 'string' },
  'max-ratings': { type: 'string' },
  'at-least': { type: 'string', multiple: true, default: [] }, // price=10: further numbers of the items
  'at-most': { type: 'string', multiple: true, default: [] },
}

/** The indices of items by their ids; `items`: the rows of items.parquet. */
export function indicesOf(ids, items) {
  return ids.map((id) => {
    const row = items.findIndex(({ item_id: other }) => String(other) === id)
    if (row < 0) throw new Error(`no item has the id ${JSON.stringify(id)}`)
    return row + 1
  })
}

/** The place of a category; its case does not matter where no other has the name in that case. */
function placeOf(name, categories) {
  const exact = categories.indexOf(name)
  if (exact >= 0) return exact
  const like = categories.filter((one) => one.toLowerCase() === name.toLowerCase())
  if (!categories.length) throw new Error('the items of this bundle have no categories')
  if (like.length !== 1) throw new Error(`there is no category ${JSON.stringify(name)}; there are ${categories.join(', ')}`)
  return categories.indexOf(like[0])
}

/** The graph's inputs by name, of ONNX Runtime's class `Tensor`, but what is denied; null without rules. `columns`:
 * `item_rules` of the manifest; `items`: the rows of items.parquet. */
export function rulesOf(options, columns, items, Tensor) {
  const allowed = indicesOf(options.allow, items)
  const { category: wanted, 'not-category': unwanted, years, 'min-ratings': least, 'max-ratings': most } = options
  const lists = [allowed, wanted, unwanted, options['at-least'], options['at-most']]
  if (lists.every((given) => !given.length) && [years, least, most].every((given) => given === undefined)) return null
  if (!columns) throw new Error('this bundle has no graphs with rules: export its run again with `recsys export --filtered`')
  const lowest = columns.numbers.map(() => -1e38)
  const highest = columns.numbers.map(() => 1e38)
  const bounded = (text) => Math.max(-1e29, Math.min(Number(text), 1e29)) // an item without a number has -1e30
  const others = columns.numbers.filter((name) => !['n_ratings', 'year'].includes(name)) // which have options of their own
  const bound = (ends, name, text) => {
    const place = columns.numbers.indexOf(name)
    if (place < 0) throw new Error(`the items of this bundle have no ${name}`)
    if (!/^\d+$/.test(text)) throw new Error(`${JSON.stringify(text)} is no whole number`)
    ends[place] = bounded(text)
  }
  if (least !== undefined) bound(lowest, 'n_ratings', least)
  if (most !== undefined) bound(highest, 'n_ratings', most)
  if (years !== undefined) {
    const [, first, dash, last] = /^(\d*)(-?)(\d*)$/.exec(years) ?? []
    if (!first && !last) throw new Error(`${JSON.stringify(years)} is no range of years such as 1990-1999, 1990- or -1999`)
    if (first) bound(lowest, 'year', first)
    if (last || !dash) bound(highest, 'year', last || first)
  }
  for (const [name, ends] of [['at-least', lowest], ['at-most', highest]]) {
    for (const text of options[name]) {
      const at = text.lastIndexOf('=')
      const [number, value] = [text.slice(0, at), text.slice(at + 1)]
      if (at < 1 || !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)) throw new Error(`${JSON.stringify(text)} is not a name and a number, such as price=10`)
      if (!others.includes(number)) {
        throw new Error(`the items of this bundle have no number ${JSON.stringify(number)} for --${name}; there are ${others.join(', ') || 'none'}`)
      }
      const place = columns.numbers.indexOf(number)
      if (Math.abs(ends[place]) < 1e38) throw new Error(`${name} names ${JSON.stringify(number)} twice`)
      ends[place] = bounded(value)
    }
  }
  const empty = columns.numbers.findIndex((_, place) => lowest[place] > highest[place])
  if (empty >= 0) throw new Error(`the least ${columns.numbers[empty]} is ${lowest[empty]}, more than the largest, ${highest[empty]}: no item lies in between`)
  const marks = (names) => {
    const places = names.map((name) => placeOf(name, columns.categories))
    if (!columns.categories.length) return [0] // the graph has a column in any case
    return columns.categories.map((_, place) => Number(places.includes(place)))
  }
  const [isWanted, isUnwanted] = [marks(wanted), marks(unwanted)]
  const both = columns.categories.find((_, place) => isWanted[place] && isUnwanted[place])
  if (both !== undefined) throw new Error(`the category ${JSON.stringify(both)} is both wanted and unwanted`)
  const row = (values) => new Tensor('float32', values, [1, values.length])
  return {
    allow_item_indices: new Tensor('int64', [0, ...allowed].map(BigInt), [1, allowed.length + 1]), // 0 alone: every item
    wanted_categories: row(isWanted),
    unwanted_categories: row(isUnwanted),
    lowest_numbers: row(lowest),
    highest_numbers: row(highest),
  }
}
