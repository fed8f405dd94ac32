@echo off
rem Make .venv and install into it; arguments go to scripts/train_ui.py.
cd /d "%~dp0"
where py >nul 2>nul && (set PYTHON=py -3) || (set PYTHON=python)
%PYTHON% scripts\train_ui.py --install-only %*
if errorlevel 1 pause
