-- Take back what was counted of a request: it was no failure, or no code was sent. Once alone: run
-- again, after an answer of Redis that was lost, it would take back what was counted of another one.
-- KEYS: the mark of the request, the buckets.

if redis.call("DEL", KEYS[1]) == 0 then return end
for place = 2, #KEYS do
  local key = KEYS[place]
  local left = tonumber(redis.call("GET", key) or "0") - 1
  if left > 0 then
    redis.call("SET", key, left, "KEEPTTL")
  else
    redis.call("DEL", key)
  end
end
