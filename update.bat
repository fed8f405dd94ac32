@echo off
rem Update the checkout and its environment.
cd /d "%~dp0"
where py >nul 2>nul && (set PYTHON=py -3) || (set PYTHON=python)
%PYTHON% scripts\update.py %*
if errorlevel 1 pause
