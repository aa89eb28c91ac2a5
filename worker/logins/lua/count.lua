-- Count a request once in each bucket, or in none if one of them is full. Not once more when its
-- message comes again: the first time may have been cut short.
-- KEYS: the mark of a request that is counted, the buckets. ARGV: how long the mark is kept
-- (milliseconds), then for each bucket its size and its length (milliseconds).
-- Returns what is told of the full one, or three times 0.

if redis.call("EXISTS", KEYS[1]) == 1 then return {0, 0, 0} end
for place = 1, #KEYS - 1 do
  local key = KEYS[place + 1]
  local left = stays_full(key, ARGV[2 * place], ARGV[2 * place + 1])
  if left then return told(place, key, left) end
end
for place = 1, #KEYS - 1 do
  local key = KEYS[place + 1]
  if redis.call("INCR", key) == 1 then redis.call("PEXPIRE", key, ARGV[2 * place + 1]) end
end
redis.call("SET", KEYS[1], "", "PX", ARGV[1])
return {0, 0, 0}
