# A key for deployments, as Settings > API Keys makes it.
CREATED=$(curl -sS "$URL/settings/api-keys" -H "Cookie: panel_session=$PANEL_SESSION" \
  -H "Content-Type: application/json" \
  -d '{"name": "CI/CD Pipeline", "permissions": ["projects:write", "backups:read"]}')
KEY=$(jq -r .key <<<"$CREATED")

# The page's command.
curl -H "Authorization: Bearer $KEY" \
"$URL/api/v1/projects"

# "Backups: Read" lists and does not create. Deleted under Settings, the key gets 401.
curl -sS "$URL/api/v1/backups" -H "Authorization: Bearer $KEY"
curl -sS "$URL/api/v1/backups" -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" -d '{"name": "nightly"}'
curl -sS -X DELETE "$URL/settings/api-keys/$(jq -r .id <<<"$CREATED")" \
  -H "Cookie: panel_session=$PANEL_SESSION"
curl -sS "$URL/api/v1/projects" -H "Authorization: Bearer $KEY"
