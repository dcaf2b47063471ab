-- Which edges there are. KEYS[1]: their set, by when each is forgotten. ARGV: this edge, milliseconds that it stays (0: it
-- leaves). Returns how many there are.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stay = tonumber(ARGV[2])
if stay > 0 then
  redis.call('ZADD', KEYS[1], now + stay, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], stay)
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZCARD', KEYS[1])
