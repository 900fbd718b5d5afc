-- The request that wrk repeats, an image file as it is:
--   wrk --threads 1 --connections 8 --duration 20s --latency --script load.lua http://127.0.0.1:8000/v2/models/covid/infer -- chest.png
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Inference-Header-Content-Length"] = "0"
  file:close()
end
