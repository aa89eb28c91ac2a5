-- Forgets that a worker works on jobs. KEYS: records, times. ARGV: their tags.

redis.call("ZREM", KEYS[2], unpack(ARGV))
redis.call("HDEL", KEYS[1], unpack(ARGV))
