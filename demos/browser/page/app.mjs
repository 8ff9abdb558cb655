// The page: search, stars, list. Text from the bundle is only ever set as text, never as markup.
import { load } from './model.mjs'

const MOST_RESULTS = 8
const N_WELL_KNOWN = 10
const N_RECOMMENDED = 20
const STARS = 5

const at = (id) => document.getElementById(id)
const ratings = new Map() // item index -> rating; this tab's only memory
let model

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes)
  made.append(...children)
  return made
}

/** The ratings that one to five stars stand for, on the scale of the data: one star where all are equal. */
function starValues() {
  const [low, high] = model.about.ratings_range
  if (low === high) return [high]
  return Array.from({ length: STARS }, (_, place) =>
    low < 0 ? low + ((high - low) * place) / (STARS - 1) : Math.max(low, (high * (place + 1)) / STARS),
  )
}

function rate(index, rating) {
  const isNew = !ratings.has(index)
  ratings.set(index, rating)
  if (isNew) showRated()
  showSuggestions()
  void recommend()
}

function forget(index) {
  ratings.delete(index)
  showRated()
  showSuggestions()
  void recommend()
}

function stars(index) {
  const { title } = model.item(index)
  const group = element('fieldset', { className: 'stars' }, element('legend', { className: 'hidden' }, `Rate ${title}`))
  starValues().forEach((value, place, values) => {
    const input = element('input', {
      type: 'radio',
      name: `stars-${index}`,
      id: `stars-${index}-${place + 1}`,
      checked: ratings.get(index) === value,
      onchange: () => rate(index, value),
    })
    const text = element('span', { className: 'hidden' }, values.length > 1 ? `${place + 1} of ${STARS} stars` : 'Liked')
    group.append(input, element('label', { htmlFor: input.id }, text))
  })
  return group
}

function showRated() {
  at('rated').replaceChildren(
    ...[...ratings.keys()].reverse().map((index) => {
      const { title } = model.item(index)
      const remove = element('button', {
        type: 'button',
        className: 'quiet',
        ariaLabel: `Remove ${title}`,
        textContent: '×',
        onclick: () => {
          forget(index)
          at('query').focus()
        },
      })
      return element('li', {}, element('span', { className: 'title' }, title), stars(index), remove)
    }),
  )
  at('clear').hidden = ratings.size === 0
}

function showSuggestions() {
  const unrated = model.wellKnown(N_WELL_KNOWN + ratings.size).filter((index) => !ratings.has(index))
  at('known').hidden = at('query').value.trim() !== ''
  at('suggestions').replaceChildren(...unrated.slice(0, N_WELL_KNOWN).map((index) => choice(index)))
}

/** A button that rates an item with four stars, and then goes to its stars. */
function choice(index) {
  const button = element('button', {
    type: 'button',
    textContent: model.item(index).title,
    onclick: () => {
      at('query').value = ''
      search()
      const values = starValues()
      const place = Math.max(0, values.length - 2) // four of five stars
      if (!ratings.has(index)) rate(index, values[place])
      at(`stars-${index}-${place + 1}`).focus()
    },
  })
  return element('li', {}, button)
}

function search() {
  const query = at('query').value.trim()
  const found = model.search(query)
  at('results').replaceChildren(...found.slice(0, MOST_RESULTS).map((index) => choice(index)))
  at('known').hidden = query !== ''
  if (!query) at('found').textContent = ''
  else if (!found.length) at('found').textContent = `No title has “${query}”.`
  else {
    const shown = Math.min(found.length, MOST_RESULTS)
    at('found').textContent = found.length === shown ? `${shown} found` : `${shown} of ${found.length} found`
  }
}

let latest = 0
let running = Promise.resolve()

/** One run at a time; of several that wait, only the last one is worth running. */
function recommend() {
  const mine = ++latest
  running = running
    .then(async () => {
      if (mine !== latest) return
      const found = await model.recommend(new Map(ratings))
      if (mine === latest) showRecommended(found)
    })
    .catch(fail)
  return running
}

/** A bar and a text for an item of the list: the predicted rating on its scale; else, without a scale, how far the
 * score is below the best one's. */
function measure({ score, rating }, best) {
  if (rating === undefined) {
    const value = 1 - (best - score) / model.about.list_span
    return [element('meter', { min: 0, max: 1, value, ariaLabel: 'Rank' }), element('span', { className: 'score' })]
  }
  const [low, high] = model.about.ratings_range
  const bar = element('meter', { min: low, max: high, value: rating, ariaLabel: 'Predicted rating' })
  return [bar, element('span', { className: 'score rating' }, rating.toFixed(2))]
}

function showRecommended({ items, folded, ms }) {
  at('basis').textContent = basis(folded, items[0]?.rating !== undefined)
  at('list').replaceChildren(
    ...items.slice(0, N_RECOMMENDED).map((item, place) => {
      const { title, genres } = model.item(item.index)
      const text = element('div', { className: 'text' }, element('span', { className: 'title' }, title))
      if (genres.length) text.append(element('span', { className: 'genres' }, genres.join(' · ')))
      return element('li', { value: place + 1 }, text, ...measure(item, items[0].score))
    }),
  )
  const { runtime, nCases, notWebGpu } = model
  at('runtime').textContent =
    `Computed in ${ms.toFixed(1)} ms by ONNX Runtime Web (${runtime.name}), after it answered the model's ` +
    `${nCases} conformance cases rightly.` +
    (notWebGpu ? ` WebGPU is not used (${notWebGpu}).` : '')
}

function basis(folded, isRated) {
  const n = ratings.size
  const from = `${n} ${n === 1 ? 'rating' : 'ratings'}`
  const bar = isRated ? 'The bar is the rating that you would give.' : 'The bar is longer for what suits you better.'
  if (folded) return `From your ${from}. ${bar}`
  if (!n) return 'Nothing rated yet: this is what the average user would like.'
  return (
    `This model (${model.about.model}) can't take in a new user's ratings: this is what the average user would ` +
    `like, without what you rated.`
  )
}

function fail(error) {
  at('error').textContent = `It does not work here: ${error.message}`
  at('error').hidden = false
  at('basis').textContent = ''
  document.querySelector('main').setAttribute('aria-busy', 'false')
}

try {
  model = await load()
  const { about } = model
  const n = (count) => count.toLocaleString('en')
  at('about').textContent =
    `Model ${about.model} on ${about.data}: ${n(about.n_ratings)} ratings of ${n(about.n_items)} items by ` +
    `${n(about.n_users)} users. ${about.licence}`
  at('query').placeholder = 'A title, or a few words of it'
  at('query').disabled = false
  at('query').addEventListener('input', search)
  at('clear').addEventListener('click', () => {
    ratings.clear()
    showRated()
    showSuggestions()
    void recommend()
    at('query').focus()
  })
  showSuggestions()
  await recommend()
  document.querySelector('main').setAttribute('aria-busy', 'false')
} catch (error) {
  fail(error)
}
