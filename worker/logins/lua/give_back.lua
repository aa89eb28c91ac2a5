-- Take back what was counted: it was no failure. KEYS: the buckets.

for _, key in ipairs(KEYS) do
  local left = tonumber(redis.call("GET", key) or "0") - 1
  if left > 0 then
    redis.call("SET", key, left, "KEEPTTL")
  else
    redis.call("DEL", key)
  end
end
