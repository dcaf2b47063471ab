-- The tenant's roles and database, as on a shared server: an owner that cannot log in, two roles that log in and act as it.
-- Names come from the environment, passwords from files; both are quoted by the server.
\getenv owner OWNER
\getenv a LOGIN_A
\getenv b LOGIN_B
\getenv database TENANT_DATABASE
\getenv connections CONNECTIONS
\set a_password `cat /credentials/a`
\set b_password `cat /credentials/b`
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';

SELECT format('CREATE ROLE %I NOLOGIN', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES (:'a'), (:'b')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
-- A role without a password is closed, and its sessions end.
SELECT CASE WHEN password = '' THEN format('ALTER ROLE %I NOLOGIN PASSWORD NULL', name)
            ELSE format('ALTER ROLE %I LOGIN PASSWORD %L', name, password) END
FROM (VALUES (:'a', :'a_password'), (:'b', :'b_password')) AS wanted (name, password) \gexec
SELECT pg_terminate_backend(pid, 5000)
FROM (VALUES (:'a', :'a_password'), (:'b', :'b_password')) AS wanted (name, password) JOIN pg_stat_activity ON usename = name
WHERE password = '';
SELECT format('GRANT %I TO %I', :'owner', name) FROM (VALUES (:'a'), (:'b')) AS wanted (name) \gexec
SELECT format('ALTER ROLE %I SET role = %L', name, :'owner') FROM (VALUES (:'a'), (:'b')) AS wanted (name) \gexec
SELECT format('CREATE DATABASE %I', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SELECT format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', datname) FROM pg_database WHERE datallowconn \gexec
SELECT format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO %I', :'database', :'owner') \gexec
SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', :'database', :'connections') \gexec
-- From now on the superuser comes by the socket only.
ALTER ROLE postgres PASSWORD NULL;
\connect :database
SELECT format('GRANT ALL ON SCHEMA public TO %I', :'owner') \gexec
