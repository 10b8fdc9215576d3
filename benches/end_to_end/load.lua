-- What wrk sends: a request with the next key, each built once before the load begins, so that a
-- request costs the load core one table look-up. The script's argument is a file with a key a line.

local requests = {}
local count = 0
local at = 0

function init(args)
  wrk.headers["user-agent"] = "bench/1.0"
  wrk.headers["accept"] = "application/json"
  for key in io.lines(args[1]) do
    wrk.headers["x-api-key"] = key
    count = count + 1
    requests[count] = wrk.format("GET", "/orders/42")
  end
end

function request()
  at = at % count + 1
  return requests[at]
end

-- One line that the bench reads: times in microseconds.
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"broken":%d,"refused":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
