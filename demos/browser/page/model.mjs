// The bundle in this tab: everything is loaded once, and answers then come without the network.
import { check, tensor } from './check.mjs'
import { fetched, json, start, unpacked } from './runtime.mjs'

/** Load the bundle and try it on its conformance cases; what WebGPU can't do, or does wrongly, WebAssembly does.
 * @returns a Model */
export async function load() {
  const [about, items, conformance] = await Promise.all([
    json('bundle/about.json'),
    unpacked('bundle/items.json').then((answer) => answer.json()),
    json('bundle/conformance.json'),
  ])
  const needed = /^(recommend(_shard_\d+)?|merge|fold_in|similar_items)$/
  const graphs = Object.keys(about.tolerance).filter((graph) => needed.test(graph))
  const files = Object.fromEntries(
    await Promise.all(graphs.map(async (graph) => [graph, await fetched(`bundle/${graph}.onnx`)])),
  )
  const model = new Model(about, items, (wanted) => tried(wanted, files, about, conformance))
  try {
    await model.use(navigator.gpu ? 'webgpu' : 'wasm')
  } catch (error) {
    await model.doWithoutWebGpu(error)
  }
  return model
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

/** A runtime whose sessions have answered the conformance cases: {runtime, sessions, nCases}. */
async function tried(wanted, files, about, conformance) {
  const runtime = await start(wanted)
  const sessions = {}
  let nCases = 0
  for (const [graph, file] of Object.entries(files)) {
    const verdict = await check(runtime.ort, conformance.graphs[graph], about.tolerance[graph], graph, async () =>
      (sessions[graph] = await runtime.ort.InferenceSession.create(file, { executionProviders: runtime.providers })),
    )
    if (verdict.unsupported) throw new Error(verdict.unsupported)
    if (verdict.problem)
      throw new Error(`${runtime.name} does not answer as the bundle's conformance cases say: ${verdict.problem}`)
    nCases += verdict.n_cases
  }
  return { runtime, sessions, nCases }
}

class Model {
  /** Why WebGPU does not answer here; undefined where it does, or the browser has none. */
  notWebGpu

  /** @param tryRuntime gives a runtime that answers as the conformance cases say; see `tried` */
  constructor(about, items, tryRuntime) {
    Object.assign(this, { about, items, tryRuntime })
    this.folded = items.title.map(fold)
    this.words = this.folded.map((title) => title.match(/[\p{L}\p{N}]+/gu) ?? [])
  }

  /** Answer with a runtime, 'webgpu' or 'wasm', from now on. */
  async use(wanted) {
    this.wanted = wanted
    Object.assign(this, await this.tryRuntime(wanted))
  }

  /** Answer with WebAssembly from now on, if it was WebGPU that failed; else the failure is the answer. */
  async doWithoutWebGpu(failure) {
    if (this.wanted !== 'webgpu') throw failure
    await this.use('wasm')
    this.notWebGpu = failure.message.replace(/^.*\bmessage: /s, '') // of a lost GPU, after the C++ that noticed
  }

  get canFoldIn() {
    return 'fold_in' in this.sessions
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
    return 'similar_items' in this.sessions
  }

  /** The items most like one, the most similar first: [{index, score}], a score being a cosine. */
  async similar(index) {
    const run = async () => {
      const feeds = { item_index: tensor(this.runtime.ort, { dtype: 'int64', shape: [1], data: [index] }) }
      const { top_item_indices: found, top_scores: scores } = await this.sessions.similar_items.run(feeds)
      return [...found.data]
        .map((found, rank) => ({ index: Number(found), score: scores.data[rank] }))
        .filter(({ index }) => index > 0)
    }
    return this.orWithoutWebGpu(run)
  }

  /** Recommendations from ratings, a Map from item index to rating; rated items are left out.
   * @returns {items: [{index, score, rating}], folded, ms}: best first; a score orders the list, a rating is
   *   predicted, undefined where nothing predicts it; folded is false for the average user's list */
  recommend(ratings) {
    return this.orWithoutWebGpu(() => this.recommendOnce(ratings))
  }

  async orWithoutWebGpu(run) {
    try {
      return await run()
    } catch (error) {
      await this.doWithoutWebGpu(error) // the GPU is lost when a laptop sleeps, or its driver starts anew
      return run()
    }
  }

  async recommendOnce(ratings) {
    const rated = [...ratings.keys()]
    const shape = [1, Math.max(1, rated.length)]
    const indices = { dtype: 'int64', shape, data: rated.length ? rated : [0] }
    const folded = this.canFoldIn && rated.length > 0
    const feeds = folded
      ? { item_indices: indices, ratings: { dtype: 'float32', shape, data: [...ratings.values()] } }
      : { user_index: { dtype: 'int64', shape: [1], data: [0] }, exclude_item_indices: indices }
    const { ort } = this.runtime
    const tensors = Object.fromEntries(Object.entries(feeds).map(([name, array]) => [name, tensor(ort, array)]))
    const start = performance.now()
    const found = await (folded ? this.sessions.fold_in.run(tensors) : this.ranked(tensors))
    const ms = performance.now() - start
    const { lists, ratings_range: [low, high] } = this.about
    const predicted = lists === 'ratings' ? found.top_scores : found.top_ratings
    const items = [...found.top_item_indices.data]
      .map((index, rank) => ({
        index: Number(index),
        score: found.top_scores.data[rank],
        rating: predicted && Math.min(Math.max(predicted.data[rank], low), high),
      }))
      .filter(({ index }) => index > 0)
    return { items, folded, ms }
  }

  /** What recommend.onnx gives for one user; of a bundle in shards, what these and merge.onnx give. */
  async ranked(tensors) {
    if ('recommend' in this.sessions) return this.sessions.recommend.run(tensors)
    const tops = []
    for (let n = 0; `recommend_shard_${n}` in this.sessions; n++)
      tops.push(await this.sessions[`recommend_shard_${n}`].run(tensors))
    const feeds = { user_index: tensors.user_index }
    for (const name of Object.keys(tops[0])) {
      const data = tops.flatMap((top) => [...top[name].data])
      const lists = { dtype: tops[0][name].type, shape: [1, data.length], data }
      feeds[name.replace('top_', 'shard_')] = tensor(this.runtime.ort, lists)
    }
    return this.sessions.merge.run(feeds)
  }
}
