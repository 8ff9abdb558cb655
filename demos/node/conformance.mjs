// Does ONNX Runtime for Node answer as a bundle's conformance cases say? node conformance.mjs BUNDLE [--json]
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { check } from './check.mjs'

process.env.ORT_DISABLE_TELEMETRY ??= '1' // or official builds report to their maker
const ort = await import('onnxruntime-node')

process.on('uncaughtException', ({ message }) => (console.error(`Error: ${message}`), process.exit(1)))

const [bundle, ...options] = process.argv.slice(2)
if (!bundle) {
  console.error('Usage: node conformance.mjs BUNDLE [--json]')
  process.exit(2)
}
const read = async (name) => JSON.parse(await readFile(join(bundle, name), 'utf8'))
const [manifest, conformance] = [await read('manifest.json'), await read('conformance.json')]
const verdicts = []
for (const graph of Object.keys(manifest.graphs).sort()) {
  verdicts.push(
    await check(ort, conformance.graphs[graph], manifest.graphs[graph].tolerance, graph, (name) =>
      ort.InferenceSession.create(join(bundle, `${name}.onnx`)),
    ),
  )
}
if (options.includes('--json')) {
  console.log(JSON.stringify(verdicts))
} else {
  for (const { graph, n_cases, largest_error, unsupported, problem } of verdicts) {
    const equal = n_cases
      ? `equal, ${n_cases} cases within ${largest_error?.toExponential(1)}`
      : 'not compared: the bundle has no conformance cases for it'
    console.log(`${graph}: ${unsupported ? `not supported: ${unsupported}` : (problem ?? equal)}`)
  }
}
if (verdicts.every(({ n_cases, unsupported }) => unsupported || !n_cases)) throw new Error('nothing was compared.')
process.exitCode = verdicts.some(({ problem }) => problem) ? 1 : 0
