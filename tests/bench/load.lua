-- wrk's script: posts images from 64 connections, and compares each mask with the expected one.
-- Arguments: a folder of N.jpg and N.png, their number, milliseconds between a response and the next request.
-- The number of the image is sent as a custom attribute, which the server returns with the mask.

local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

local function content(path)
   local file = assert(io.open(path, "rb"))
   local bytes = file:read("*a")
   file:close()
   return bytes
end

function init(arguments)
   local folder, count = arguments[1], tonumber(arguments[2])
   pause = tonumber(arguments[3])
   requests, masks, turn = {}, {}, 0
   for number = 1, count do
      local headers = {["Accept"] = "image/png", ["X-Amzn-SageMaker-Custom-Attributes"] = tostring(number)}
      requests[number] = wrk.format("POST", "/invocations", headers, content(folder .. "/" .. number .. ".jpg"))
      masks[number] = content(folder .. "/" .. number .. ".png")
   end
   right, wrong, refused, undocumented, first_undocumented = 0, 0, 0, 0, ""
end

function delay()
   return math.random(0, 2 * pause)
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function response(status, headers, body)
   if status == 200 then
      if body == masks[tonumber(headers["X-Amzn-SageMaker-Custom-Attributes"])] then
         right = right + 1
      else
         wrong = wrong + 1
      end
   elseif status == 503 and tonumber(headers["Retry-After"]) and body:find('^{"error": "') then
      refused = refused + 1
   else
      undocumented = undocumented + 1
      first_undocumented = status .. " " .. body
   end
end

function done(summary, latency)
   local thread = threads[1]
   local errors = summary.errors
   local broken = errors.connect + errors.read + errors.write + errors.timeout
   io.write(string.format("\n{\"right\": %d, \"wrong\": %d, \"refused\": %d, \"undocumented\": %d, \"broken\": %d, ",
      thread:get("right"), thread:get("wrong"), thread:get("refused"), thread:get("undocumented"), broken))
   io.write(string.format("\"longest\": %.3f, \"seconds\": %.1f}\n", latency.max / 1e6, summary.duration / 1e6))
   if thread:get("undocumented") > 0 then
      io.stderr:write(thread:get("first_undocumented") .. "\n")
   end
end
