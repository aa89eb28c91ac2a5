-- Notes that a job is being worked on. KEYS: records, times. ARGV: the time, the tag, the record.

redis.call("HSET", KEYS[1], ARGV[2], ARGV[3])
redis.call("ZADD", KEYS[2], ARGV[1], ARGV[2])
