// ONNX Runtime Web, from this folder: WebGPU or WebAssembly.

/** Load the runtime.
 * @param wanted 'webgpu', which fails where there is none, or 'wasm'
 * @returns {ort, name, providers}: the module, what runs ("WebGPU" or "WebAssembly"), and how to ask for it */
export async function start(wanted) {
  const gpu = wanted === 'webgpu'
  if (gpu && !(await navigator.gpu?.requestAdapter())) throw new Error('this browser has no WebGPU adapter')
  const ort = await import(gpu ? './ort/ort.webgpu.min.mjs' : './ort/ort.wasm.min.mjs')
  ort.env.wasm.wasmPaths = new URL('ort/', import.meta.url).href
  ort.env.wasm.wasmBinary = await (await unpacked(`ort/ort-wasm-simd-threaded${gpu ? '.asyncify' : ''}.wasm`)).arrayBuffer()
  // More threads need two response headers (COOP, COEP) that a plain file server does not send.
  ort.env.wasm.numThreads = 1
  return gpu
    ? { ort, name: 'WebGPU', providers: ['webgpu'] }
    : { ort, name: 'WebAssembly', providers: ['wasm'] }
}

/** A file of this page that the build has packed, as a response. */
export async function unpacked(path) {
  const answer = await fetch(`${path}.gzipped`)
  if (!answer.ok) throw new Error(`${path} can't be loaded: ${answer.status} ${answer.statusText}`)
  return new Response(answer.body.pipeThrough(new DecompressionStream('gzip')))
}
