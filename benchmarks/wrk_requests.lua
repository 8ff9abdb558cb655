-- For wrk: POST each line of a file in turn to a path, or GET the path; print the result as JSON.
--   wrk ... -s wrk_requests.lua URL -- PATH [FILE]
local requests, n = {}, 0

function init(args)
  if args[2] then
    for line in io.lines(args[2]) do
      requests[#requests + 1] = wrk.format("POST", args[1], {["Content-Type"] = "application/json"}, line)
    end
  else
    requests[1] = wrk.format("GET", args[1])
  end
end

function request()
  n = n % #requests + 1
  return requests[n]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answers": %d, "seconds": %f, "p50": %f, "p99": %f, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
