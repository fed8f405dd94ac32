@echo off
rem Open the window; installs first when that was not done.
cd /d "%~dp0"
where py >nul 2>nul && (set PYTHON=py -3) || (set PYTHON=python)
%PYTHON% scripts\train_ui.py %*
if errorlevel 1 pause
