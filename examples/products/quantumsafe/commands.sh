# An account, and a session.
curl -sS "$URL/v1/auth/register" -H "Content-Type: application/json" \
  -d '{"email": "dev@example.com", "password": "securepassword123", "name": "Alice Developer"}'
TOKEN=$(curl -sS "$URL/v1/auth/login" -H "Content-Type: application/json" \
  -d '{"email": "dev@example.com", "password": "securepassword123"}' | jq -r .data.token)

# A key, made with the session; another one, made with the first.
CREATED=$(curl -sS "$URL/v1/auth/api-keys" -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"name": "Production Backend", "type": "secret", "environment": "live"}')
KEY=$(jq -r .data.key <<<"$CREATED")
curl -sS "$URL/v1/auth/api-keys" -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" \
  -d '{"name": "Frontend Scanner", "type": "publishable", "environment": "live"}'
curl -sS "$URL/v1/auth/api-keys" -H "Authorization: Bearer $KEY"

# The API that the key is for. Deleted, the key gets AUTH_002 from the next request on.
curl -sS -X POST "$URL/v1/scan" -H "Authorization: Bearer $KEY"
curl -sS -X DELETE "$URL/v1/auth/api-keys/$(jq -r .data.id <<<"$CREATED")" \
  -H "Authorization: Bearer $KEY"
curl -sS -X POST "$URL/v1/scan" -H "Authorization: Bearer $KEY"
