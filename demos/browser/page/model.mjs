// The bundle in this tab: everything is loaded once, and answers then come without the network.
import { check, tensor } from './check.mjs'
import { fetched, json, start } from './runtime.mjs'

/** Load the bundle and try it on its conformance cases; what WebGPU can't do, or does wrongly, WebAssembly does.
 * @returns a Model */
export async function load() {
  const [about, items, conformance] = await Promise.all(
    ['about', 'items', 'conformance'].map((name) => json(`bundle/${name}.json`)),
  )
  const graphs = Object.keys(about.tolerance).filter((graph) => /^(recommend(_shard_\d+)?|merge|fold_in)$/.test(graph))
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
    this.folded = items.title.map((title) => title.toLocaleLowerCase())
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

  /** Indices of the items whose title has every word of a query, those that begin with it first. */
  search(query) {
    const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean)
    if (!words.length) return []
    const phrase = words.join(' ')
    return this.folded
      .map((title, row) => ({ title, index: row + 1 }))
      .filter(({ title }) => words.every((word) => title.includes(word)))
      .sort(
        (a, b) =>
          b.title.startsWith(phrase) - a.title.startsWith(phrase) ||
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

  /** Recommendations from ratings, a Map from item index to rating; rated items are left out.
   * @returns {items: [{index, score, rating}], folded, ms}: best first; a score orders the list, a rating is
   *   predicted, undefined where nothing predicts it; folded is false for the average user's list */
  async recommend(ratings) {
    try {
      return await this.recommendOnce(ratings)
    } catch (error) {
      await this.doWithoutWebGpu(error) // the GPU is lost when a laptop sleeps, or its driver starts anew
      return this.recommendOnce(ratings)
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
