-- The requests of bench.py for wrk: after --, the work, a token, and a name that no other run has.
local work, token, run
local headers, count = {}, 0

function init(arguments)
   work, token, run = arguments[1], arguments[2], arguments[3]
   if work == "POST /token" then
      headers["Content-Type"] = "application/x-www-form-urlencoded"
   else
      headers["Authorization"] = "Bearer " .. token
      headers["Content-Type"] = "application/json"
   end
   if work:sub(1, 3) == "GET" then
      headers["Content-Type"] = nil
      fixed = wrk.format("GET", work:sub(5), headers)
   elseif work == "POST /token" then
      fixed = wrk.format("POST", "/token", headers, "username=reader&password=Bench-Pass-1")
   end
end

function request()
   if fixed then
      return fixed
   end
   count = count + 1
   if work == "POST /stuff" then
      local body = string.format('{"stuff": "%s-%d", "price": 6.5}', run, count)
      return wrk.format("POST", "/stuff", headers, body)
   end
   return wrk.format("PATCH", "/stuff/thing" .. count % 10, headers, '{"price": ' .. count .. ".5}")
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "us": %d, "refused": %d, "broken": %d, "p99_us": %d}\n',
      summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
      latency:percentile(99)))
end
