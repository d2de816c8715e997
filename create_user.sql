-- A user for 類似画像検索 with exactly what it needs. Asks for name and password; runs again without harm.
--
--   Free or Base Database   sql system@host:1521/FREEPDB1 @create_user.sql      (the pluggable database, not the root)
--   Autonomous Database     sql admin@<alias of the wallet> @create_user.sql
--
-- An existing user keeps its password. On Autonomous Database a password has 12 to 30 characters, among them capital
-- and small letters and a digit.

SET VERIFY OFF
SET SERVEROUTPUT ON
WHENEVER SQLERROR EXIT FAILURE ROLLBACK
ACCEPT app_user CHAR DEFAULT IMGSEARCH PROMPT 'User (Enter for IMGSEARCH): '
ACCEPT app_password CHAR PROMPT 'Password: ' HIDE

-- The tables go into the default tablespace of the database: USERS on Free and Base, DATA on Autonomous. VECTOR columns
-- need one with automatic segment space management, which SYSTEM is not. No role holds a quota, so it is given here.
--
-- GRANT DB_DEVELOPER_ROLE would do as well and is more than is needed. CTXAPP is for the Japanese word index and is
-- missing where Oracle Text is.
DECLARE
  l_user       VARCHAR2(128) := DBMS_ASSERT.SIMPLE_SQL_NAME('&app_user');
  l_tablespace VARCHAR2(128);
  l_count      PLS_INTEGER;
BEGIN
  IF SYS_CONTEXT('USERENV', 'CON_NAME') = 'CDB$ROOT' THEN
    RAISE_APPLICATION_ERROR(-20002, 'Connect to the pluggable database (FREEPDB1 on Oracle Free), not to CDB$ROOT.');
  END IF;
  SELECT property_value INTO l_tablespace FROM database_properties
  WHERE property_name = 'DEFAULT_PERMANENT_TABLESPACE';
  IF l_tablespace IN ('SYSTEM', 'SYSAUX') THEN
    RAISE_APPLICATION_ERROR(-20003, 'Make USERS the default tablespace first: VECTOR columns cannot live in ' || l_tablespace);
  END IF;
  EXECUTE IMMEDIATE 'CREATE USER IF NOT EXISTS ' || l_user || q'[ IDENTIFIED BY "&app_password"]';
  EXECUTE IMMEDIATE 'ALTER USER ' || l_user || ' DEFAULT TABLESPACE ' || l_tablespace
    || ' QUOTA UNLIMITED ON ' || l_tablespace;
  EXECUTE IMMEDIATE 'GRANT CREATE SESSION, CREATE TABLE, CREATE VIEW, CREATE SEQUENCE TO ' || l_user;
  SELECT COUNT(*) INTO l_count FROM dba_roles WHERE role = 'CTXAPP';
  IF l_count > 0 THEN
    EXECUTE IMMEDIATE 'GRANT CTXAPP TO ' || l_user;
  ELSE
    DBMS_OUTPUT.PUT_LINE('Oracle Text is not installed: words will be searched without an index.');
  END IF;
  DBMS_OUTPUT.PUT_LINE(l_user || ' is ready in tablespace ' || l_tablespace || '.');
END;
/
UNDEFINE app_password
