//! Removing: whole snapshots beyond those that stay, and what dead savers left.

use super::{RedisStore, old, save::BATCH};
use crate::backend::BackendError;
use redis::Connection;

/// Takes the head away from a version that nobody needs, so that it is none any more.
const CONDEMN: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
redis.call('DEL', KEYS[4])
return 1";

/// Takes entries from the index of a version, and removes those that no other one's index has: neither a snapshot's
/// nor that of a save that is going on. Tells how many it took.
const FREE: &str = "
local index, versions, current = KEYS[1], KEYS[2], KEYS[3]
local id, prefix, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local left = redis.call('ZRANGE', index, 0, limit - 1)
local count = #left
local others = redis.call('ZREVRANGE', versions, 0, -1)
others[#others + 1] = redis.call('GET', current)
for _, other in ipairs(others) do
  if #left == 0 then break end
  if other and other ~= id then
    local held, rest = redis.call('ZMSCORE', prefix .. other .. ':index', unpack(left)), {}
    for n, member in ipairs(left) do
      if not held[n] then rest[#rest + 1] = member end
    end
    left = rest
  end
end
for n, member in ipairs(left) do left[n] = prefix .. 'entry:' .. member end
if #left > 0 then redis.call('UNLINK', unpack(left)) end
redis.call('ZREMRANGEBYRANK', index, 0, limit - 1)
return count";

impl RedisStore {
    /// Removes what no one needs.
    pub(super) fn sweep(&self, of: &mut Connection) -> Result<(), BackendError> {
        let mut whole = 0;
        for id in self.versions(of)? {
            let is_whole = self.has_head(of, &id)?;
            whole += usize::from(is_whole);
            if is_whole && whole <= self.keep.max(1) {
                continue;
            }
            let mut condemn = redis::cmd("EVAL");
            condemn.arg(CONDEMN).arg(4).arg(self.key("current"));
            for name in ["saving", "loading", "head"] {
                condemn.arg(self.key_of(&id, name));
            }
            if self.said(condemn.arg(&id).query(of))? {
                self.discard(of, &id)?;
            }
        }
        Ok(())
    }

    /// Removes all keys of a version that has no head. It stays among the versions until the last of them is gone.
    pub(super) fn discard(&self, of: &mut Connection, id: &str) -> Result<(), BackendError> {
        let mut free = redis::cmd("EVAL");
        free.arg(FREE).arg(3).arg(self.key_of(id, "index")).arg(self.key("versions"));
        free.arg(self.key("current")).arg(id).arg(&self.prefix).arg(BATCH);
        while self.said(free.query::<u64>(of))? > 0 {}
        old::discard(self, of, id)?;
        let mut rest = redis::pipe();
        for name in ["head", "saving", "loading"] {
            rest.cmd("UNLINK").arg(self.key_of(id, name));
        }
        rest.cmd("ZREM").arg(self.key("versions")).arg(id);
        self.exchange(of, &rest).map(drop)
    }
}
