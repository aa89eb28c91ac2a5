-- Takes jobs and notes that they are being worked on; settles what is done in the same trip.
-- KEYS: records, times, queues in the order of their turns. ARGV: the time, how many at most, what
-- their tags begin with, the bytes one may have in each queue, and the tags of jobs that are done.
-- Returns {queue, message, tag} of each. What is too large goes, and neither message nor tag comes.
-- What lies in the place of a queue and is none goes too: no tag comes, and its error as the message.
-- Left there it would stop every worker.
-- A record is as kombu writes it: [message, exchange, routing key] by tag, beside the time it was
-- taken. kombu's sweep for jobs of dead workers reads both, and puts a job where its record says:
-- into the queue it was taken from, and not where its sender says.
-- No message is decoded here: one of many keys would take a second, and Redis serves no client
-- meanwhile. What is no message gets a record like all other jobs; its taker drops it.

for index = 2 + #KEYS, #ARGV do
  redis.call("ZREM", KEYS[2], ARGV[index])
  redis.call("HDEL", KEYS[1], ARGV[index])
end

local function record_of(raw, queue)
  local name = string.match(queue, "^(.-)\6\22%d+$") or queue  -- the rest is a priority
  return "[" .. raw .. ',"",' .. cjson.encode(name) .. "]"
end

local function refusal_of_note(tag, record)
  local added = redis.pcall("ZADD", KEYS[2], ARGV[1], tag)
  if type(added) == "table" and added.err then return added end
  local kept = redis.pcall("HSET", KEYS[1], tag, record)
  if type(kept) == "table" and kept.err then return kept end
end

local taken, most, is_empty = {}, tonumber(ARGV[2]), false
local no_queues = {}  -- they take nobody's turn: until all are gone, no worker can listen

local function found()
  for _, each in ipairs(no_queues) do taken[#taken + 1] = each end
  return taken
end

while not is_empty do
  is_empty = true
  for index = 3, #KEYS do
    if #taken >= most then return found() end
    -- Popped first: a Redis that is full lets a script write only what follows on something freed,
    -- and a full queue could never be emptied.
    local raw = redis.pcall("RPOP", KEYS[index])
    if type(raw) == "table" and raw.err then
      if not string.find(raw.err, "WRONGTYPE", 1, true) then
        if #taken > 0 then return found() end
        return raw
      end
      redis.call("DEL", KEYS[index])
      no_queues[#no_queues + 1] = {KEYS[index], raw.err, ""}
    elseif raw then
      is_empty = false
      if #raw > tonumber(ARGV[index + 1]) then
        taken[#taken + 1] = {KEYS[index], "", ""}
      else
        local tag = ARGV[3] .. #taken
        local refusal = refusal_of_note(tag, record_of(raw, KEYS[index]))
        if refusal then
          redis.call("RPUSH", KEYS[index], raw)
          if #taken > 0 then return found() end
          return refusal
        end
        taken[#taken + 1] = {KEYS[index], raw, tag}
      end
    end
  end
end
return found()
