-- Whether a bucket is full. KEYS: the buckets. ARGV: for each its size and its length (milliseconds).
-- Returns as `count` does.

for place, key in ipairs(KEYS) do
  local left = stays_full(key, ARGV[2 * place - 1], ARGV[2 * place])
  if left then return told(place, key, left) end
end
return {0, 0, 0}
