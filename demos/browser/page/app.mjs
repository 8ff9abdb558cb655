// The page: search, stars, list. Text from the bundle is only ever set as text, never as markup.
import { load } from './model.mjs'

const MOST_RESULTS = 8
const N_WELL_KNOWN = 10
const N_NEAREST = 5
const STARS = 5
const N_REASONS = 3
const YEARS = ['first-year', 'last-year']

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
  const exact = model.search(query)
  const found = exact.length ? exact : model.nearest(query, N_NEAREST)
  at('results').replaceChildren(...found.slice(0, MOST_RESULTS).map((index) => choice(index)))
  at('known').hidden = query !== ''
  if (!query) at('found').textContent = ''
  else if (!exact.length)
    at('found').textContent = `No title has “${query.slice(0, 80)}”.` + (found.length ? ' The nearest:' : '')
  else {
    const shown = Math.min(found.length, MOST_RESULTS)
    at('found').textContent = found.length === shown ? `${shown} found` : `${shown} of ${found.length} found`
  }
}

let shown // the last recommendations
let again = showRecommended // draws the list that is seen once more
let latest = 0
let running = Promise.resolve()

/** The bounds that the controls ask for, by the names of the items' numbers; an end of the data leaves nothing out. */
function bounds() {
  if (!model.rules) return {}
  const { years, popularity } = model.rules
  const asked = { n_ratings: popularity[at('popularity').selectedIndex][1] }
  if (years) asked.year = YEARS.map((id, end) => (Number(at(id).value) === years[end] ? null : Number(at(id).value)))
  return asked
}

/** Bring a year into those of the data, and the other one to its side. */
function boundYear({ target }) {
  const { years } = model.rules
  const end = YEARS.indexOf(target.id)
  const given = target.value === '' ? years[end] : Math.round(Number(target.value))
  const year = Math.min(Math.max(given, years[0]), years[1])
  target.value = year
  const other = at(YEARS[1 - end])
  if (end === 0 ? Number(other.value) < year : Number(other.value) > year) other.value = year
  void recommend()
}

/** What the controls of variety ask for; null for the best items in order. */
function variety() {
  const [diversity, surprise, most] = ['diversity', 'surprise', 'most'].map((id) => Number(at(id).value))
  return model.canVary && (diversity || surprise || most) ? { diversity, surprise, most } : null
}

function vary() {
  for (const id of ['diversity', 'surprise']) at(id).nextElementSibling.textContent = Number(at(id).value)
  void recommend()
}

/** One run at a time; of several that wait, only the last one is worth running. */
function recommend() {
  const mine = ++latest
  running = running
    .then(async () => {
      if (mine !== latest) return
      if (ratings.size && model.mustLoad('fold_in')) at('basis').textContent = 'Loading what answers to ratings…'
      else if (variety() && model.mustLoad('variety')) at('basis').textContent = 'Loading what varies lists…'
      const [from, genre] = [new Map(ratings), at('genre').value]
      const found = await model.recommend(from, genre, bounds(), variety())
      if (mine !== latest) return
      at('error').hidden = true
      shown = { ...found, from, genre }
      showRecommended()
    })
    .catch(fail)
  return running
}

/** A bar and a text for an item of the list: the predicted rating, the bar from the lowest to the highest of all that
 * are ranked; else, without a scale, how far the score is below the best one's. */
function measure({ score, rating }, ranked) {
  if (rating === undefined) {
    const value = 1 - (ranked[0].score - score) / model.about.list_span
    return [element('meter', { min: 0, max: 1, value, ariaLabel: 'Rank' }), element('span', { className: 'score' })]
  }
  const [low, high] = ends(ranked)
  const bar = element('meter', { min: low, max: high, value: rating, ariaLabel: 'Predicted rating' })
  return [bar, element('span', { className: 'score rating' }, rating.toFixed(2))]
}

function showRecommended() {
  if (!shown) return
  again = showRecommended
  const { items, ranked, nCandidates, varied, folded, genre, minded, ms, from } = shown
  const k = Number(at('k').value)
  at('back').hidden = true
  at('basis').textContent = basis(from.size, folded, ranked, varied) + (varied ? ' Varied as you asked.' : '')
  const isCut = genre !== minded && nCandidates < k // by the length of the graph's list
  if (isCut) at('few').textContent = `${genre}: ${nCandidates} of the ${ranked.length} best.`
  else if (!items.length) at('few').textContent = 'No item is like that, of those that you have not rated.'
  else if (items.length < Math.min(k, nCandidates))
    at('few').textContent = `A varied list has at most ${items.length} items.`
  else at('few').textContent = ''
  at('list').replaceChildren(
    ...items.slice(0, k).map((item, place) => {
      const made = row(item.index, place, ...measure(item, ranked))
      if (folded && model.canExplain) made.querySelector('.about').append(whyButton(item.index, from))
      return made
    }),
  )
  const { runtime, nCases, notWebGpu } = model
  at('runtime').textContent =
    `Computed in ${ms.toFixed(1)} ms by ONNX Runtime Web (${runtime.name}), after it answered ` +
    `${nCases} conformance cases of the model correctly.` +
    (notWebGpu ? ` WebGPU is not used (${notWebGpu}).` : '')
}

/** An item of a list, with the elements that measure it. */
function row(index, place, ...measures) {
  const { title, genres } = model.item(index)
  const about = element('div', { className: 'about' }, element('span', { className: 'genres' }, genres.join(' · ')))
  if (model.canFindSimilar) about.append(similarButton(index))
  const text = element('div', { className: 'text' }, element('span', { className: 'title', title }, title), about)
  return element('li', { value: place + 1 }, text, ...measures)
}

/** A button that says which of the ratings `from` raise an item's score most, and takes it back. */
function whyButton(index, from) {
  const button = element('button', {
    type: 'button',
    className: 'quiet why',
    textContent: 'Why',
    ariaLabel: `Why ${model.item(index).title}`,
    ariaExpanded: 'false',
    onclick: () => {
      const row = button.closest('li')
      const said = row.querySelector('.reasons')
      button.ariaExpanded = String(!said)
      if (said) return said.remove()
      const text = element('p', { className: 'reasons', role: 'status', textContent: 'Loading the reasons…' })
      row.append(text)
      running = running
        .then(async () => {
          if (!text.isConnected) return // taken back, or of a list that is gone
          const found = await model.explain(from, index, N_REASONS)
          const isScale = starValues().length > 1
          const rated = found.map(({ index, rating }) => model.item(index).title + (isScale ? ` (${rating} ★)` : ''))
          text.textContent = rated.length
            ? `Because you ${isScale ? 'rated' : 'liked'} ${rated.join(', ')}.`
            : 'None of your ratings speaks for it.'
        })
        .catch(fail)
    },
  })
  return button
}

function similarButton(index) {
  return element('button', {
    type: 'button',
    className: 'quiet similar',
    textContent: 'Similar',
    ariaLabel: `Similar to ${model.item(index).title}`,
    onclick: () => {
      running = running
        .then(async () => {
          const found = await model.similar(index)
          showSimilar(index, found)
          at('back').focus()
        })
        .catch(fail)
    },
  })
}

/** The neighbours of an item in place of the recommendations, until `back` is pressed or something is rated. */
function showSimilar(index, found) {
  again = () => showSimilar(index, found)
  at('basis').textContent = `Most like ${model.item(index).title}, by the cosine of the model's factors.`
  at('few').textContent = ''
  at('back').hidden = false
  at('list').replaceChildren(
    ...found.slice(0, Number(at('k').value)).map(({ index, score }, place) => {
      const bar = element('meter', { min: 0, max: 1, value: score, ariaLabel: 'Cosine' })
      return row(index, place, bar, element('span', { className: 'score' }, score.toFixed(2)))
    }),
  )
}

/** The lowest and the highest predicted rating. */
const ends = (ranked) => [Math.min, Math.max].map((end) => end(...ranked.map(({ rating }) => rating)))

/** Whether predicted ratings fall along a list. */
const falls = (ranked) => ranked.every(({ rating }, place) => place === 0 || rating <= ranked[place - 1].rating)

/** What a list is from: from `n` ratings, if they are folded in. */
function basis(n, folded, ranked, varied) {
  const from = `${n} ${n === 1 ? 'rating' : 'ratings'}`
  const bar =
    ranked[0]?.rating === undefined
      ? 'The bar is longer for what suits you better.'
      : `Bars begin at ${ends(ranked)[0].toFixed(2)}, the lowest predicted rating of the ${ranked.length} best.` +
        (varied || falls(ranked) ? '' : ' The likeliest choices come first, not the highest ratings.')
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
  model = await load(new URLSearchParams(location.search).get('runtime') ?? 'wasm')
  const { about } = model
  const n = (count) => count.toLocaleString('en')
  at('about').textContent =
    `Model ${about.model} on ${about.data}: ${n(about.n_ratings)} ratings of ${n(about.n_items)} items by ` +
    `${n(about.n_users)} users. ${about.licence}`
  at('query').placeholder = 'A title, or a few words of it'
  at('query').disabled = false
  at('query').addEventListener('input', search)
  at('genre').append(...model.genres.map((genre) => element('option', { value: genre, textContent: genre })))
  at('genre').parentElement.hidden = !model.genres.length
  at('rules').hidden = !model.rules
  if (model.rules) {
    const { years, popularity } = model.rules
    at('popularity').append(...popularity.map(([name]) => element('option', { textContent: name })))
    at('popularity').addEventListener('change', recommend)
    YEARS.forEach((id, end) => {
      at(id).parentElement.hidden = !years
      if (years) Object.assign(at(id), { min: years[0], max: years[1], value: years[end] })
      at(id).addEventListener('change', boundYear)
    })
  }
  at('variety').hidden = !model.canVary
  at('most').parentElement.hidden = !model.canVary || !model.genres.length
  for (const id of ['diversity', 'surprise', 'most']) at(id).addEventListener('input', vary)
  at('back').addEventListener('click', () => {
    showRecommended()
    at('list').querySelector('button')?.focus()
  })
  at('genre').addEventListener('change', recommend)
  at('k').addEventListener('change', () => again())
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
