-- Takes jobs and notes that they are being worked on; settles what is done in the same trip.
-- KEYS: records, times, queues in the order of their turns. ARGV: the time, how many at most, and
-- the tags of jobs that are done.
-- Returns {queue, message, delivery tag} of each. What is no message has the tag "" and no record.
-- A record is as kombu writes it: [message, exchange, routing key] by delivery tag, beside the time
-- it was taken. kombu's sweep for jobs of dead workers reads both, and puts a job where its record
-- says: into the queue it was taken from, and not where its sender says.

for index = 3, #ARGV do
  redis.call("ZREM", KEYS[2], ARGV[index])
  redis.call("HDEL", KEYS[1], ARGV[index])
end

local function record_of(raw, queue)
  local is_json, message = pcall(cjson.decode, raw)
  local properties = is_json and type(message) == "table" and message.properties
  local delivery = type(properties) == "table" and properties.delivery_info
  if type(delivery) ~= "table" then return end
  local tag, exchange, key = properties.delivery_tag, delivery.exchange, delivery.routing_key
  if type(exchange) ~= "string" or type(key) ~= "string" then return end
  if type(tag) ~= "string" or tag == "" then return end
  local name = string.match(queue, "^(.-)\6\22%d+$") or queue  -- the rest is a priority
  return tag, "[" .. raw .. ',"",' .. cjson.encode(name) .. "]"
end

local function refusal_of_note(tag, record)
  local added = redis.pcall("ZADD", KEYS[2], ARGV[1], tag)
  if type(added) == "table" and added.err then return added end
  local kept = redis.pcall("HSET", KEYS[1], tag, record)
  if type(kept) == "table" and kept.err then return kept end
end

local taken, most, is_empty = {}, tonumber(ARGV[2]), false
while not is_empty do
  is_empty = true
  for index = 3, #KEYS do
    if #taken >= most then return taken end
    -- Popped first: a Redis that is full lets a script write only what follows on something freed,
    -- and a full queue could never be emptied.
    local raw = redis.call("RPOP", KEYS[index])
    if raw then
      is_empty = false
      local tag, record = record_of(raw, KEYS[index])
      local refusal = tag and refusal_of_note(tag, record)
      if refusal then
        redis.call("RPUSH", KEYS[index], raw)
        if #taken > 0 then return taken end
        return refusal
      end
      taken[#taken + 1] = {KEYS[index], raw, tag or ""}
    end
  end
end
return taken
