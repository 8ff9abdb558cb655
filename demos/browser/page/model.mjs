// The bundle in this tab. A graph is loaded when it is first asked, so the first list waits for few bytes.
import { check, tensor } from './check.mjs'
import { start, unpacked } from './runtime.mjs'

/** Load what the first list needs but its graphs.
 * @param wanted the runtime, 'webgpu' or 'wasm'; what WebGPU can't do, or does wrongly, WebAssembly does
 * @returns a Model */
export async function load(wanted) {
  const names = ['about', 'items', 'conformance']
  const documents = names.map(async (name) => (await unpacked(`bundle/${name}.json`)).json())
  return new Model(...(await Promise.all(documents)), wanted)
}

// Characters and words of a mistyped query that are compared, and the least likeness of a title that is suggested.
const MAX_COMPARED = 100
const MAX_WORDS = 8
const LEAST_LIKENESS = 0.65

/** Text for comparison: without case and accents. */
const fold = (text) => text.normalize('NFD').replace(/\p{M}/gu, '').toLocaleLowerCase()

/** Whether a folded title begins with a phrase, with or without an article. */
const begins = (title, phrase) => title.startsWith(phrase) || title.replace(/^(the|an?) /, '').startsWith(phrase)

/** How alike two words are, from 0 to 1: 1 less their distance, in letters that are missing, added, wrong or
 * exchanged with the next one (optimal string alignment), as a share of the longer word. */
function likeness(a, b) {
  const longest = Math.max(a.length, b.length)
  if (Math.abs(a.length - b.length) > 0.5 * longest) return 0
  let [before, last] = [[], Array.from({ length: b.length + 1 }, (_, place) => place)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], before[j - 2] + 1)
    }
    ;[before, last] = [last, row]
  }
  return 1 - last[b.length] / longest
}

class Model {
  /** Why WebGPU does not answer here; undefined where it does, or was not asked for. */
  notWebGpu

  constructor(about, items, conformance, wanted) {
    Object.assign(this, { about, items, conformance })
    this.folded = items.title.map(fold)
    this.words = this.folded.map((title) => title.match(/[\p{L}\p{N}]+/gu) ?? [])
    this.use(wanted)
  }

  /** Answer with a runtime, 'webgpu' or 'wasm', from now on. */
  use(wanted) {
    Object.assign(this, { wanted, starting: undefined, sessions: {}, nCases: 0 })
  }

  /** Sessions of graphs, each of which has answered its conformance cases. */
  async opened(graphs) {
    const sessions = []
    for (const graph of graphs) sessions.push((this.sessions[graph] ??= await this.open(graph)))
    return sessions
  }

  async open(graph) {
    this.starting ??= start(this.wanted)
    const [runtime, file] = await Promise.all([
      this.starting,
      unpacked(`bundle/${graph}.onnx`).then((answer) => answer.arrayBuffer()),
    ])
    this.runtime = runtime
    const { ort, name, providers: executionProviders } = runtime
    let session
    const verdict = await check(ort, this.conformance.graphs[graph], this.about.tolerance[graph], graph, async () =>
      (session = await ort.InferenceSession.create(new Uint8Array(file), { executionProviders })),
    )
    if (verdict.unsupported) throw new Error(verdict.unsupported)
    if (verdict.problem)
      throw new Error(`${name} does not answer as the bundle's conformance cases say: ${verdict.problem}`)
    this.nCases += verdict.n_cases
    return session
  }

  /** Whether an answer needs graphs that are not loaded yet. */
  mustLoad(kind) {
    return this.about.graphs[kind].some((graph) => !(graph in this.sessions))
  }

  /** Answer with WebAssembly from now on, if it was WebGPU that failed; else the failure is the answer. */
  doWithoutWebGpu(failure) {
    if (this.wanted !== 'webgpu') throw failure
    this.use('wasm')
    this.notWebGpu = failure.message.replace(/^.*\bmessage: /s, '') // of a lost GPU, after the C++ that noticed
  }

  get canFoldIn() {
    return this.about.graphs.fold_in.length > 0
  }

  /** Item at an index, from 1 to n: {index, title, genres}. */
  item(index) {
    return { index, title: this.items.title[index - 1], genres: this.items.genres[index - 1] }
  }

  /** The genres of the items, those of most items first. Names in brackets are not genres. */
  get genres() {
    const counts = new Map()
    for (const genre of this.items.genres.flat())
      if (!genre.startsWith('(')) counts.set(genre, (counts.get(genre) ?? 0) + 1)
    return [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1))
  }

  /** Indices of the items whose title is most like a mistyped query, at most n: each word of the query counts as
   * much as the title's word that is most like it; of equally similar titles, the most rated come first. */
  nearest(query, n) {
    const words = (fold(query).slice(0, MAX_COMPARED).match(/[\p{L}\p{N}]+/gu) ?? []).slice(0, MAX_WORDS)
    if (!words.length) return []
    const known = [...new Set(this.words.flat())]
    const alike = words.map((word) => new Map(known.map((other) => [other, likeness(word, other)])))
    const counts = this.items.n_ratings
    return this.words
      .map((title, row) => {
        const best = alike.map((like) => Math.max(0, ...title.map((word) => like.get(word))))
        return { index: row + 1, like: best.reduce((sum, one) => sum + one, 0) / words.length }
      })
      .filter(({ like }) => like >= LEAST_LIKENESS)
      .sort((a, b) => b.like - a.like || counts[b.index - 1] - counts[a.index - 1] || a.index - b.index)
      .slice(0, n)
      .map(({ index }) => index)
  }

  /** Indices of the items whose title has every word of a query, those that begin with it first. */
  search(query) {
    const words = fold(query).split(/\s+/).filter(Boolean)
    if (!words.length) return []
    const phrase = words.join(' ')
    return this.folded
      .map((title, row) => ({ title, index: row + 1 }))
      .filter(({ title }) => words.every((word) => title.includes(word)))
      .sort(
        (a, b) =>
          begins(b.title, phrase) - begins(a.title, phrase) ||
          this.items.n_ratings[b.index - 1] - this.items.n_ratings[a.index - 1] ||
          a.index - b.index,
      )
      .map(({ index }) => index)
  }

  /** Indices of the items that were rated most often. */
  wellKnown(n) {
    const counts = this.items.n_ratings
    return counts
      .map((_, row) => row + 1)
      .sort((a, b) => counts[b - 1] - counts[a - 1] || a - b)
      .slice(0, n)
  }

  get canFindSimilar() {
    return this.about.graphs.similar_items.length > 0
  }

  /** The items most like one, the most similar first: [{index, score}], a score being a cosine. */
  async similar(index) {
    const run = async () => {
      const [session] = await this.opened(this.about.graphs.similar_items)
      const feeds = { item_index: tensor(this.runtime.ort, { dtype: 'int64', shape: [1], data: [index] }) }
      const { top_item_indices: found, top_scores: scores } = await session.run(feeds)
      return [...found.data]
        .map((found, rank) => ({ index: Number(found), score: scores.data[rank] }))
        .filter(({ index }) => index > 0)
    }
    return this.orWithoutWebGpu(run)
  }

  get canVary() {
    return this.about.graphs.variety.length > 0
  }

  get canExplain() {
    return this.about.graphs.explain.length > 0
  }

  /** The n ratings, of a Map from item index to rating, that raise an item's score most: [{index, rating}], the first
   * most; none where they all lower it. */
  explain(ratings, index, n) {
    const rated = [...ratings.keys()]
    const shape = [1, rated.length]
    const run = async () => {
      const [session] = await this.opened(this.about.graphs.explain)
      const feeds = {
        item_indices: { dtype: 'int64', shape, data: rated },
        ratings: { dtype: 'float32', shape, data: [...ratings.values()] },
        explained_item_indices: { dtype: 'int64', shape: [1, 1], data: [index] },
      }
      const tensors = Object.entries(feeds).map(([name, array]) => [name, tensor(this.runtime.ort, array)])
      const { contributions } = await session.run(Object.fromEntries(tensors))
      const added = contributions.data
      const order = [...rated.keys()].sort((a, b) => added[b] - added[a]).filter((place) => added[place] > 0)
      return order.slice(0, n).map((place) => ({ index: rated[place], rating: ratings.get(rated[place]) }))
    }
    return this.orWithoutWebGpu(run)
  }

  /** What lists can be asked by rules: {years: [first, last] or null, popularity: [[name, [fewest, most]], …]}; null
   * where the bundle has no graphs with rules. */
  get rules() {
    return this.about.rules
  }

  /** Recommendations from ratings, a Map from item index to rating; rated items are left out.
   * @param genre that all items must have, '' for any
   * @param numbers of all items, where there are `rules`: name -> [least, most], null for no bound
   * @param variety {diversity, surprise, most}, as the inputs of variety.onnx; null for the best in order
   * @returns {items: [{index, score, rating}], ranked, nCandidates, varied, folded, minded, ms}: items in their order,
   *   chosen from nCandidates, and all that were ranked, best first; a score ranks, a rating is predicted, undefined
   *   where nothing predicts it; folded is false for the average user's list; minded is the genre that the graph has
   *   minded */
  recommend(ratings, genre, numbers, variety) {
    return this.orWithoutWebGpu(() => this.recommendOnce(ratings, genre, numbers, variety))
  }

  async orWithoutWebGpu(run) {
    try {
      return await run()
    } catch (error) {
      this.doWithoutWebGpu(error) // the GPU is lost when a laptop sleeps, or its driver starts anew
      return run()
    }
  }

  async recommendOnce(ratings, genre, numbers, variety) {
    const rated = [...ratings.keys()]
    const shape = [1, Math.max(1, rated.length)]
    const indices = { dtype: 'int64', shape, data: rated.length ? rated : [0] }
    const folded = this.canFoldIn && rated.length > 0
    const graphs = this.about.graphs[folded ? 'fold_in' : 'recommend']
    const byRules = graphs[0].endsWith('_filtered')
    const minded = byRules && this.rules.categories.includes(genre) ? genre : ''
    const feeds = {
      ...(folded
        ? { item_indices: indices, ratings: { dtype: 'float32', shape, data: [...ratings.values()] } }
        : { user_index: { dtype: 'int64', shape: [1], data: [0] } }),
      ...(folded && !byRules ? {} : { exclude_item_indices: indices }),
      ...(byRules ? this.ruleInputs(minded, numbers) : {}),
    }
    const sessions = await this.opened(graphs)
    const [vary] = variety ? await this.opened(this.about.graphs.variety) : []
    const { ort } = this.runtime
    const tensors = Object.fromEntries(Object.entries(feeds).map(([name, array]) => [name, tensor(ort, array)]))
    const start = performance.now()
    const found = await (sessions.length === 1 ? sessions[0].run(tensors) : this.merged(sessions, tensors))
    let ms = performance.now() - start
    const { lists, ratings_range: [low, high] } = this.about
    const predicted = lists === 'ratings' ? found.top_scores : found.top_ratings
    const ranked = [...found.top_item_indices.data]
      .map((index, rank) => ({
        index: Number(index),
        score: found.top_scores.data[rank],
        rating: predicted && Math.min(Math.max(predicted.data[rank], low), high),
      }))
      .filter(({ index }) => index > 0)
    let items = genre === minded ? ranked : ranked.filter(({ index }) => this.item(index).genres.includes(genre))
    const nCandidates = items.length
    if (vary) {
      const start = performance.now()
      items = await this.varied(vary, items, found.top_item_indices.dims[1], variety)
      ms += performance.now() - start
    }
    return { items, ranked, nCandidates, varied: Boolean(vary), folded, minded, ms }
  }

  /** Items in the order of a variety: as many as variety.onnx orders, of a list of at most `length`. */
  async varied(session, items, length, { diversity, surprise, most }) {
    const list = (dtype, values, padding) => ({ dtype, shape: [1, length], data: [...values, ...Array(length - values.length).fill(padding)] })
    const one = (dtype, value) => ({ dtype, shape: [1], data: [value] })
    const feeds = {
      item_indices: list('int64', items.map(({ index }) => index), 0),
      scores: list('float32', items.map(({ score }) => score), -1e30),
      diversity: one('float32', diversity),
      surprise: one('float32', surprise),
      max_per_category: one('int64', most),
    }
    const tensors = Object.entries(feeds).map(([name, array]) => [name, tensor(this.runtime.ort, array)])
    const { places } = await session.run(Object.fromEntries(tensors))
    return [...places.data].slice(0, items.length).map((place) => items[Number(place)])
  }

  /** The inputs of rules (docs/bundle.md): items of a genre, '' for any, with numbers within bounds. */
  ruleInputs(genre, numbers) {
    const { categories, numbers: names } = this.rules
    const row = (data) => ({ dtype: 'float32', shape: [1, data.length], data })
    const wanted = categories.length ? categories.map((name) => Number(name === genre)) : [0]
    return {
      allow_item_indices: { dtype: 'int64', shape: [1, 1], data: [0] },
      wanted_categories: row(wanted),
      unwanted_categories: row(wanted.map(() => 0)),
      lowest_numbers: row(names.map((name) => numbers[name]?.[0] ?? -1e38)),
      highest_numbers: row(names.map((name) => numbers[name]?.[1] ?? 1e38)),
    }
  }

  /** One user's list from the sessions of shards and, the last one, of merge.onnx. */
  async merged(sessions, tensors) {
    const tops = []
    for (const shard of sessions.slice(0, -1)) tops.push(await shard.run(tensors))
    const feeds = { user_index: tensors.user_index }
    for (const name of Object.keys(tops[0])) {
      const data = tops.flatMap((top) => [...top[name].data])
      const lists = { dtype: tops[0][name].type, shape: [1, data.length], data }
      feeds[name.replace('top_', 'shard_')] = tensor(this.runtime.ort, lists)
    }
    return sessions.at(-1).run(feeds)
  }
}
