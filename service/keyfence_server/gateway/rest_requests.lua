-- Refuses a REST request that says something that no RPC has, or says one thing twice.
--
-- Envoy's transcoder ignores fields that it does not know, takes the last of two values, and lets
-- a query parameter overwrite a variable of the path. With these, a key whose "expireTime" is
-- misspelt never expires, and DELETE /v1/keys/A?keyId=B revokes B. This script reads the query
-- and the body before the transcoder does.
--
-- It lets through plain JSON and plain query parameters only. The transcoder accepts more than
-- that, and two parsers that read one text differently could find different fields in it. The
-- script checks names, and leaves values to the transcoder.
--
-- METHODS and FIELDS are defined above this text: see rest_requests.py.

local MAX_DEPTH = 32
-- No field's name is as long as this, and every key is longer.
local MAX_SHOWN = 22

local function refuse(message)
  error({message = message}, 0)
end

-- A name as it may appear in an error message: a name that could be a key is left out.
local function shown(name)
  return #name <= MAX_SHOWN and string.find(name, "^[%w_]+$") and name or "(an odd name)"
end

local function refuse_malformed(at)
  refuse("the body is not JSON: byte " .. at .. " was not expected")
end

local function after_space(text, at)
  return string.find(text, "[^ \t\r\n]", at) or #text + 1
end

local SIMPLE_ESCAPES = {b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}

local function utf8_unit(unit)
  if unit < 0x80 then
    return string.char(unit)
  elseif unit < 0x800 then
    return string.char(0xC0 + math.floor(unit / 0x40), 0x80 + unit % 0x40)
  end
  local middle = math.floor(unit / 0x40) % 0x40
  return string.char(0xE0 + math.floor(unit / 0x1000), 0x80 + middle, 0x80 + unit % 0x40)
end

-- UTF-8 for a pair of surrogates, each of which `utf8_unit` has written as three bytes.
local function join_surrogates(high, high_low, low, low_low)
  local upper = (high:byte() - 0xA0) * 0x40 + high_low:byte() - 0x80
  local lower = (low:byte() - 0xB0) * 0x40 + low_low:byte() - 0x80
  local point = 0x10000 + upper * 0x400 + lower
  return string.char(
    0xF0 + math.floor(point / 0x40000),
    0x80 + math.floor(point / 0x1000) % 0x40,
    0x80 + math.floor(point / 0x40) % 0x40,
    0x80 + point % 0x40
  )
end

-- The name that a JSON string stands for, so that two spellings of one name are equal.
local function unescaped(text)
  if not string.find(text, "\\", 1, true) then
    return text
  end
  text = string.gsub(text, "\\(.)(%x?%x?%x?%x?)", function(mark, digits)
    if mark == "u" and #digits == 4 then
      return utf8_unit(tonumber(digits, 16))
    end
    return (SIMPLE_ESCAPES[mark] or mark) .. digits
  end)
  return (string.gsub(
    text, "\237([\160-\175])([\128-\191])\237([\176-\191])([\128-\191])", join_surrogates
  ))
end

-- What is between the quotes, with its escapes, and the position after it.
local function read_string(text, at)
  if string.sub(text, at, at) ~= '"' then
    refuse_malformed(at)
  end
  local from = at + 1
  while true do
    local found = string.find(text, '["\\%z\1-\31]', from)
    local mark = found and string.sub(text, found, found)
    if mark == '"' then
      return string.sub(text, at + 1, found - 1), found + 1
    elseif mark ~= "\\" then
      refuse_malformed(found or #text + 1)
    end
    from = found + 2
  end
end

local read_value

-- Reads the members of an object or the elements of an array, each with `read_one`.
local function read_many(text, at, close, read_one)
  at = after_space(text, at + 1)
  if string.sub(text, at, at) == close then
    return at + 1
  end
  while true do
    at = after_space(text, read_one(at))
    local mark = string.sub(text, at, at)
    if mark == close then
      return at + 1
    elseif mark ~= "," then
      refuse_malformed(at)
    end
    at = after_space(text, at + 1)
  end
end

-- A variable of the path may stand in the body as well, if both are equal: so what GET has
-- answered can be sent back with PUT.
local function check_bound(text, at, value, name)
  local expected = '"' .. value .. '"'
  if string.sub(text, at, at + #expected - 1) ~= expected then
    refuse('the field "' .. name .. '" differs from the path: leave it out')
  end
end

-- `here.kind` is the object's entry in FIELDS. Without one, the object may have any field.
-- `here.shown` is its path as the caller spells it, `here.path` as the protos do; `here.bound`
-- has the values of the path's variables, by their paths.
local function read_object(text, at, here, depth)
  local fields = FIELDS[here.kind]
  local seen = {}
  return read_many(text, at, "}", function(start)
    local name, stop = read_string(text, start)
    local full = here.shown .. shown(name)
    local canonical, inner = unescaped(name), nil
    if fields then
      local field = fields[name] or fields["*"]
      if not field then
        refuse('there is no field "' .. full .. '" here')
      end
      canonical, inner = field.name or canonical, field.kind
    end
    if seen[canonical] then
      refuse('the field "' .. full .. '" comes twice')
    end
    seen[canonical] = true
    stop = after_space(text, stop)
    if string.sub(text, stop, stop) ~= ":" then
      refuse_malformed(stop)
    end
    stop = after_space(text, stop + 1)
    local path = here.path .. canonical
    if here.bound[path] then
      check_bound(text, stop, here.bound[path], full)
    end
    local there = {kind = inner, shown = full .. ".", path = path .. ".", bound = here.bound}
    return read_value(text, stop, there, depth + 1)
  end)
end

read_value = function(text, at, here, depth)
  if depth > MAX_DEPTH then
    refuse("the body is nested too deeply")
  end
  local mark = string.sub(text, at, at)
  if mark == "{" then
    return read_object(text, at, here, depth)
  elseif mark == "[" then
    return read_many(text, at, "]", function(start)
      return read_value(text, start, here, depth + 1)
    end)
  elseif mark == '"' then
    local _, stop = read_string(text, at)
    return stop
  end
  local _, stop = string.find(text, "^[%w.+-]+", at)
  if not stop then
    refuse_malformed(at)
  end
  return stop + 1
end

local function check_body(text, method, bound)
  local at = after_space(text, 1)
  if string.sub(text, at, at) ~= "{" then
    refuse("the body is not a JSON object")
  end
  local whole = {kind = method.body, shown = "", path = "", bound = bound}
  at = after_space(text, read_object(text, at, whole, 1))
  if at <= #text then
    refuse_malformed(at)
  end
end

-- One parameter's name is a path of fields, like "account.account_id".
local function check_parameter(name, method, seen)
  local kind, canonical, full, field = method.input, "", "", nil
  for part in string.gmatch(name .. ".", "([^.]*)%.") do
    full = full .. (full == "" and "" or ".") .. shown(part)
    local fields = kind and FIELDS[kind]
    field = fields and fields[part]
    if not field then
      refuse('there is no query parameter "' .. full .. '" here')
    end
    canonical = canonical .. (canonical == "" and "" or ".") .. field.name
    if method.elsewhere[canonical] or method.elsewhere["*"] then
      refuse('"' .. full .. '" belongs in the ' ..
        (method.elsewhere[canonical] or method.elsewhere["*"]) .. ", not in the query")
    end
    kind = field.kind
  end
  if seen[canonical] and not field.is_list then
    refuse('the query parameter "' .. full .. '" comes twice')
  end
  seen[canonical] = true
end

local function check_query(query, method)
  local seen = {}
  for parameter in string.gmatch(query, "[^&]+") do
    local name = string.match(parameter, "^([^=]*)=")
    if not name then
      refuse('the query parameter "' .. shown(parameter) .. '" has no value: write NAME=VALUE')
    end
    check_parameter(name, method, seen)
  end
end

-- The method, and the values of its path's variables by their paths in the body.
local function find_method(verb, path)
  for _, method in ipairs(METHODS) do
    local values = {string.match(path, method.path)}
    if method.verb == verb and #values > 0 then
      local bound = {}
      for place, index in pairs(method.variables) do
        bound[place] = values[index]
      end
      return method, bound
    end
  end
end

local function check_request(query, body, method, bound)
  check_query(query, method)
  if body and body:length() > 0 then
    check_body(body:getBytes(0, body:length()), method, bound)
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = string.match(headers:get(":path"), "^([^?]*)%??(.*)$")
  local method, bound = find_method(headers:get(":method"), path)
  if not method then
    handle:respond({[":status"] = "404"}, "there is no such method")
    return
  end
  local good, problem = pcall(check_request, query, handle:body(), method, bound)
  if not good then
    local message = type(problem) == "table" and problem.message
    handle:respond({[":status"] = "400"}, message or "the request cannot be read")
  end
end
