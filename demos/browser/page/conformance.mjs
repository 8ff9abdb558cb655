// The conformance cases of every graph of the bundle, in this browser; the verdicts stand in the page as JSON.
import { check } from './check.mjs'
import { start, unpacked } from './runtime.mjs'

const asked = new URLSearchParams(location.search)
const wanted = asked.get('runtime') ?? 'wasm'
const place = document.querySelector('#verdicts')
try {
  const { ort, name, providers } = await start(wanted)
  const about = await (await unpacked('bundle/about.json')).json()
  const conformance = await (await unpacked('bundle/conformance.json')).json()
  const graphs = asked.get('graphs')?.split(',') ?? Object.keys(conformance.graphs).sort()
  const verdicts = []
  for (const graph of graphs) {
    verdicts.push(
      await check(ort, conformance.graphs[graph], about.tolerance[graph], graph, async (graph) => {
        const file = new Uint8Array(await (await unpacked(`bundle/${graph}.onnx`)).arrayBuffer())
        return ort.InferenceSession.create(file, { executionProviders: providers })
      }),
    )
  }
  place.textContent = JSON.stringify({ runtime: name, verdicts }, null, 2)
} catch (error) {
  place.textContent = JSON.stringify({ error: error.message })
}
place.setAttribute('aria-busy', 'false')
